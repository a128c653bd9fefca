"""Fine-tune a pretrained detector on your posed pairs, and look at what it did to pairs that selected nothing.

python examples/train_on_pairs.py --data data/castle data/door --validation data/square --report data/fountain
"""

import argparse

import rfp

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data", nargs="+", required=True, help="folders of posed pairs to train on")
parser.add_argument("--validation", nargs="+", required=True, help="folders that choose the weights")
parser.add_argument("--report", nargs="+", required=True, help="folders that are only looked at")
parser.add_argument("--network", default="aliked-t16")
parser.add_argument("--steps", type=int, default=400)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--output", default=None, help="run folder")
arguments = parser.parse_args()

network = rfp.load_pretrained(arguments.network)
train, validation, report = (
    rfp.data.PosedPairs(folders, image_size=320) for folders in (arguments.data, arguments.validation, arguments.report)
)
before = rfp.evaluate(network, report, estimator="poselib", num_keypoints=512)

options = rfp.TrainerOptions(steps=arguments.steps, seed=arguments.seed)
summary = rfp.Trainer(network, options).fit(
    train,
    validation=validation,
    output=arguments.output,
    on_step=lambda row: print(f"step {row['step']:4d}  reward {row['reward']:.3f}  failed {row['failed']:.1%}"),
)

after = rfp.evaluate(network, report, estimator="poselib", num_keypoints=512)
print(f"{summary.steps} steps, the weights of step {summary.best_step} are kept")
for degrees in before.auc:
    print(f"AUC@{degrees}: {before.auc[degrees]:.1f} before, {after.auc[degrees]:.1f} after")
