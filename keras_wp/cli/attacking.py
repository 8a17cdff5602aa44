"""What the commands that attack have in common, once they are understood."""

import dataclasses
import shlex

from keras_wp import attacks
from keras_wp.cli import files, models, pixels, ranges
from keras_wp.cluster import Ray
from keras_wp.evaluation.evaluate import evaluate as evaluate_model
from keras_wp.reports.findings import Finding


def attacked(args, model, images, **options_of_files):
    """The report of an evaluation with these arguments.

    Args:
        args: The parsed arguments.
        model: The model.
        images: Its `data.Images`, with pixels from 0 to 1.
        **options_of_files: `resume_dir`, `save_adversarial` and `shard` of
            `evaluate`.
    """
    taken = pixels.asked(args)
    if taken is None:
        taken = ranges.found(model, images, args.output_name)
    chosen, findings = chosen_attacks(args, model), []
    options = {"audit": args.audit, "adaptive": args.adaptive}
    wanted = [name for name, value in options.items() if value is not False]
    options = {k: v for k, v in options.items() if v is not None}
    if not models.has_gradients(model):
        finding = Finding(
            "warning",
            "The model gives no gradients, so that only Square, which needs "
            "none, was run: attacks that follow gradients might fool more "
            "images.",
            {
                "attacks": [attack.label for attack in chosen],
                "left out": [*args.attacks, *wanted],
            },
            "no_gradients",
        )
        findings, options = [finding], {"audit": False, "adaptive": False}
    if args.certify:
        options["certify"] = True
    if args.cluster:
        options["cluster"] = Ray(**args.cluster)
    report = evaluate_model(
        model,
        pixels.given(images, taken),
        chosen,
        eps=args.eps,
        batch_size=args.batch_size,
        seed=args.seed,
        inputs=taken.inputs,
        output=args.output_name,
        **{"resume_dir": args.resume_dir, **options_of_files},
        **options,
    )
    for finding in findings:
        files.note(finding.message)
    if any(finding.check == "chance" for finding in report.findings):
        files.note(
            "the model is no better than chance on the images as they are, "
            f"with pixels in {taken}: --bounds, --mean and --std say others."
        )
    return dataclasses.replace(
        report,
        findings=(*report.findings, *findings),
        environment={
            **report.environment,
            "dataset": images.name,
            "pixels": str(taken),
            "command": shlex.join(args.call),
        },
    )


def chosen_attacks(args, model):
    """The attacks to run on a model: those asked for, if it has gradients.

    As objects, whose budgets are those of pixels from 0 to 1.
    """
    chosen = [attacks.get(name, args.budgets) for name in args.attacks]
    if models.has_gradients(model):
        return chosen
    return _gradient_free(chosen)


def _gradient_free(chosen):
    """What stands for these attacks where there are no gradients."""
    found = {}
    for attack in chosen:
        for part in attack.parts:
            if isinstance(part, attacks.Square):
                found[part.norm] = dataclasses.replace(part, name=None)
    for attack in chosen:
        own = getattr(attack, "eps", None)
        if own is not None and attack.norm not in found:
            found[attack.norm] = attacks.Square(
                eps=own, norm=attack.norm, bounds=attack.bounds
            )
    return list(found.values())
