#!/bin/sh
# Makes every recording of the tests and of `make demo` anew. Needs espeak-ng and sox.
set -eu
cd "$(dirname "$0")"
demo=../../examples/recordings
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

say "$work/first.wav" \
    "Please tell me the story of the old lighthouse at the end of the harbor"
say "$work/second.wav" \
    "Wait stop tell me about the keeper"
sox -D "$work/first.wav" "$work/padded.wav" pad 0 1.7
sox -D "$work/padded.wav" "$work/second.wav" "$demo/barge_in.wav"

soxi -D ./*.wav "$work/first.wav" "$work/second.wav" "$demo"/*.wav
