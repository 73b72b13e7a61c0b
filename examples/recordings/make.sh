#!/bin/sh
# Makes the recordings of `make demo` anew. Needs espeak-ng and sox.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# say OUT VOICE TEXT: 16 kHz mono PCM16, 30 ms of leading silence, none at the end.
# The user's text has no comma: it would make a pause long enough to end a turn.
say() {
    espeak-ng -v "$2" -s 155 -w "$work/raw.wav" "$3"
    sox -D "$work/raw.wav" -b 16 -r 16000 -c 1 "$1" \
        silence 1 0.005 0.5% reverse silence 1 0.005 0.5% reverse norm -1 pad 0.03
}

user=en-us+f3
bot=en-gb+m3

say "$work/first.wav" $user "What will the weather be like in Paris tomorrow"
say "$work/second.wav" $user "Wait stop what about Rome"
sox -D "$work/first.wav" "$work/padded.wav" pad 0 2.5
sox -D "$work/padded.wav" "$work/second.wav" barge_in.wav

say paris.wav $bot "It will be sunny in Paris tomorrow, with a light wind, and twenty one degrees."
say rome.wav $bot "In Rome it will rain all day, at seventeen degrees."

soxi -D "$work/first.wav" "$work/second.wav" ./*.wav
