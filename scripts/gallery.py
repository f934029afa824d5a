"""Makes the pictures of the README again, in docs/: make gallery.

Trains the demo and four studies of conf/experiment/gallery (about four minutes on two cores), draws
them, and photographs the pages in a headless Chromium.
"""

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
MADE = HERE.parent / "outputs" / "readme"


def script(name: str, *arguments: object) -> None:
    command = [sys.executable, "-m", "fadeout", name, *map(str, arguments)]
    subprocess.run(command, check=True)


def photograph(
    page: Path, picture: Path, *clicks: str, height: int = 1000, at: str = "", wait: int = 300
) -> None:
    from playwright.sync_api import sync_playwright

    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        opened = chromium.new_page(viewport={"width": 1280, "height": height})
        opened.goto(f"{page.absolute().as_uri()}#{at}")
        opened.wait_for_selector("body[data-ready=yes]")
        for click in clicks:
            opened.click(click)
        opened.wait_for_timeout(wait)
        opened.screenshot(path=picture)
        chromium.close()


def main() -> None:
    shown = ("schoenholz_2017", "remedies", "mup", "cohen_2021")
    for study in ("demo", *(f"gallery/{name}" for name in shown)):
        script("train", "-m", f"+experiment={study}", f"outputs={MADE}")
    script("report", MADE / "demo")
    script("playground", "--to", MADE / "playground.html")
    script("plot", MADE / "demo", "--style", "paper", "--to", MADE / "paper")
    script("atlas", "--to", MADE / "atlas")
    script("neuron", "--to", MADE / "neuron")
    script("claims", "step-untrainable", "--outputs", MADE)
    schoenholz = MADE / "gallery/schoenholz_2017"
    pictures = {
        "gradient_profile.png": MADE / "paper/gradient_profile_at_start.png",
        "atlas.png": MADE / "atlas/all.png",
        "xor_surface.png": MADE / "neuron/xor_surface.png",
        "schoenholz_2017.png": schoenholz / "accuracy_over_weight_variance_and_depth.png",
        "remedies.png": MADE
        / "gallery/remedies/delta_norm_over_layer_by_remedy_by_activation_by_start.png",
        "mup.png": MADE / "gallery/mup/loss_over_learning_rate_by_width_by_parametrization.png",
        "cohen_2021.png": MADE / "gallery/cohen_2021/sharpness-loss_over_step_by_learning_rate.png",
        "step_untrainable.png": MADE / "claims/step-untrainable.png",
    }
    for name, made in pictures.items():
        shutil.copyfile(made, DOCS / name)
    photograph(MADE / "demo/report.html", DOCS / "report.png", height=1150)
    training = {"at": "activation=tanh&task=circles&optimizer=adam&rate=0.01", "wait": 4000}
    photograph(MADE / "playground.html", DOCS / "playground.png", "#play", height=1180, **training)


if __name__ == "__main__":
    main()
