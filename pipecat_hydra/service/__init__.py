"""Pipecat's side: frames and hooks in, frames out."""
