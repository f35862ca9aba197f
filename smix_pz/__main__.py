"""``python -m smix_pz`` is the command ``smix-pz``."""

from smix_pz.cli import main

if __name__ == "__main__":
    main()
