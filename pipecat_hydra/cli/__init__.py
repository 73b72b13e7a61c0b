"""The `pipecat-hydra` command and its subcommands `talk`, `web` and `emulator`."""
