"""`python -m seglab`: the commands, one line each."""

from seglab import __version__

COMMANDS = {
    "train": "train a network, score it, draw it      model=unet loss=dice+ce data=folder data.root=DIR",
    "check": "find what is wrong with a data set      data=folder data.root=DIR [--json]",
    "convert": "write any data set as plain folders     data=voc data.root=DIR output=DIR",
    "tune": "find the learning rate, the batch       lr | batch, then as for train",
    "sweep": "see sweeps at work and ended            [DIR] [--watch]",
    "compare": "verdicts on groups of runs              RUN|SWEEP|FOLDER ...",
    "report": "one HTML page on a run or a sweep       RUN|SWEEP ... [--out=FILE.html]",
    "evaluate": "score a checkpoint on a split           ckpt=FILE split=test",
    "predict": "segment images                          ckpt=FILE input=DIR output=DIR",
    "config": "compare two runs, explain a setting     diff RUN_A RUN_B | explain KEY",
}


def main() -> None:
    """Print the commands."""
    print(f"seglab {__version__}: image segmentation with numbers that can be trusted\n")
    for name, line in COMMANDS.items():
        print(f"  python -m seglab.{name:<9} {line}")
    print("\nEach answers --help.")


if __name__ == "__main__":
    main()
