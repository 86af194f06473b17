"""EleutherAI's evaluation harness in an environment of its own: ``python -m tests.lmeval.environment``.

About 1 GB, without torch. Quick when it is there already.
"""

from tests.hub.environments import FOLDER, Environment, make

LM_EVAL = Environment("lm-eval", ("lm-eval[api]==0.4.13",))


def main() -> None:
    """Make the environment."""
    FOLDER.mkdir(exist_ok=True)
    make(LM_EVAL)


if __name__ == "__main__":
    main()
