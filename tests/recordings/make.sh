#!/bin/sh
# Makes every recording of the tests anew. Needs espeak-ng and sox.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# say OUT TEXT: 16 kHz mono PCM16, 30 ms of leading silence, none at the end.
# The text has no comma: it would make a pause long enough to end a turn.
say() {
    espeak-ng -v en-us+f3 -s 155 -w "$work/raw.wav" "$2"
    sox -D "$work/raw.wav" -b 16 -r 16000 -c 1 "$1" \
        silence 1 0.005 0.5% reverse silence 1 0.005 0.5% reverse norm -1 pad 0.03
}

say hello.wav "Hello there how are you"
say question.wav "What will the weather be like in Paris tomorrow"
say interrupt.wav "Wait stop what about Rome"

soxi -D ./*.wav
