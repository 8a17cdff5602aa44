"""`info MODEL`: its size, and the geometry of its last layer."""

from keras_wp.cli import files, models

HELP = "show a model's size and the geometry of its last layer"


def add_arguments(command):
    """What may follow the command."""
    command.add_argument("model", metavar="MODEL", help="the model")
    models.add_options(command)


def check(args):
    """What can be found wrong before anything is loaded."""
    models.check(args.model)


def run(args):
    """Run the command."""
    from keras_wp.inspection.geometry import head_geometry

    model = models.load(args.model, args.imports)
    lines = [f"{model.name}: {args.model}"]
    if hasattr(model, "count_params"):
        lines.append(f"{model.count_params():,} parameters.")
        shape = getattr(model, "input_shape", None)
        if isinstance(shape, tuple):
            lines.append(f"Images of the shape {shape[1:]}.")
    else:
        has = "has" if models.has_gradients(model) else "has no"
        lines.append(f"A SavedModel of images {model.input_shape}.")
        lines.append(f"It {has} gradients for attacks to follow.")
    geometry = head_geometry(model)
    if geometry is None:
        lines.append("Its last layer has no class weights to be seen.")
    else:
        lines += geometry.summary()
    files.say("\n".join(lines))
