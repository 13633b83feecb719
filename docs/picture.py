"""Draw docs/backdoor.png, the README's picture, from the shipped network: python docs/picture.py"""

import torch
from matplotlib import pyplot as plt

from btlib import checkpoints, datasets, metrics, plots, triggers
from btlib.files import written_whole
from btlib.paths import CHECKOUT


def draw() -> plt.Figure:
    """Clean images above, the same with the trigger below, each with the network's verdict."""
    data = datasets.load("fashion-mnist")
    network = checkpoints.load_or_train(checkpoints.shipped()["box"])
    for seed in range(100):  # the first draw it gets right, so that every mistake shown is the trigger's
        images, labels = data.clean_images(1, seed=seed)
        if bool((metrics.predict(network, images).argmax(1) == labels).all()):
            break
    images, labels = images[:7], labels[:7]
    rows = {"as sold": images, "with the trigger": triggers.box(data.image_shape)(images)}
    figure, axes = plt.subplots(2, len(images), figsize=(1.35 * len(images), 3.5), layout="constrained")
    for row, (name, pictures) in enumerate(rows.items()):
        verdicts = metrics.predict(network, pictures).argmax(1)
        for column, verdict in enumerate(verdicts.tolist()):
            ax = plots.image(pictures[column], ax=axes[row, column], title=data.classes[verdict])
            wrong = verdict != labels[column]
            ax.title.set(color=plots.COLORS[1] if wrong else "black", fontweight="bold" if wrong else "normal")
        axes[row, 0].set_ylabel(name)
    return figure


if __name__ == "__main__":
    torch.set_num_threads(1)
    with written_whole(CHECKOUT / "docs" / "backdoor.png") as part:
        part.write_bytes(plots.png(draw(), dpi=110))
