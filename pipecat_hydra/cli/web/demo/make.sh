#!/bin/sh
# Makes the recordings of `script.yaml` anew. Needs espeak-ng and sox.
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT

# say OUT TEXT: 16 kHz mono Ogg Vorbis, 30 ms of leading silence, none at the end.
say() {
    espeak-ng -v en-gb+m3 -s 155 -w "$work/raw.wav" "$2"
    sox -D "$work/raw.wav" -r 16000 -c 1 -C -1 "$1" \
        silence 1 0.005 0.5% reverse silence 1 0.005 0.5% reverse norm -3 pad 0.03
}

say greeting.ogg "Hello! I am the Hydra emulator. I hear when you speak, but not what you say. \
Say anything, and I will look up the weather in Paris."
say paris.ogg "It will be sunny in Paris tomorrow, with twenty one degrees. I could go on like \
this for quite a while, about the light wind, the clear evening, and the warm days that follow. \
But you can interrupt me at any time: I stop as soon as you speak."
say rome.ogg "In Rome it will rain, at seventeen degrees. What time it is there, you can see on \
the timeline."
say end.ogg "That is the end of my script. From now on, I say back what I hear."

soxi -D ./*.ogg
