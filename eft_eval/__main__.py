"""`python -m eft_eval` is `eft-eval`."""

from eft_eval.cli import main

if __name__ == "__main__":
    main()
