"""Draw the README's comparison figure: a random patient denoised in several ways, tuned alike on others.

Run it from the repository's root: python docs/figures/comparison.py
"""

from pathlib import Path

from raymend import compare

METHODS = ["fbp", "nlm", "unet", "pwls-spad"]


def main() -> None:
    """Compare, print the table and write the figure."""
    outcome = compare(METHODS, ["anatomy-abdomen:12"], photons=5e4, draws=2)
    print(outcome.table())
    path = Path(__file__).with_suffix(".png")
    outcome.figure(0, window=(-160, 240)).savefig(path, dpi=100)
    print(path)


if __name__ == "__main__":
    main()
