"""Mistakes to plant in emitted texts, each with what must be said of it."""

from __future__ import annotations

from typing import NamedTuple


class Planted(NamedTuple):
    """A change of one text, and a part of the differences that it makes."""

    network: str
    backend: str
    before: str
    after: str
    finds: str

    def text(self, source: str) -> str:
        assert self.before in source
        return source.replace(self.before, self.after, 1)


def torch(network: str, before: str, after: str, finds: str) -> Planted:
    return Planted(network, "torch", before, after, finds)


def keras(network: str, before: str, after: str, finds: str) -> Planted:
    return Planted(network, "keras", before, after, finds)


RELU = "nn.functional.relu(x, inplace=True)"

PLANTED = {
    "wrong input": torch(
        "resnet50",
        "residual = self.bn2(residual)",
        "residual = self.bn2(x)",
        "layer1.1.bn2: Difference: takes 64 channels, but is given 256",
    ),
    "wrong input of as many channels": torch(
        "tests/specs/preact",
        "self.downsample(preact)",
        "self.downsample(x)",
        "layer1.0.downsample.conv is layer1.0.downsample.conv: conv(",
    ),
    "wrong channels": torch(
        "resnet50", "filters * 4", "filters * 2", "takes 256 channels, but is given 128"
    ),
    "wrong stride": torch(
        "resnet50",
        "filters, filters, 3, stride=stride, padding=1",
        "filters, filters, 3, stride=1, padding=1",
        "do not fit",
    ),
    "the stride on another convolution": keras(
        "resnet50",
        "residual = conv2d(x, filters, 1, name",
        "residual = conv2d(x, filters, 1, stride=stride, name",
        "layer2_0_add: Difference: (512, 14, 22) and (512, 28, 44) do not fit",
    ),
    "a truth for a stride": torch(
        "resnet50",
        "3, stride=stride, padding=1",
        "3, stride=stride == 1 or 2, padding=1",
        "stride is no number but True",
    ),
    "a truth for a size": keras(
        "resnet50",
        "conv2d(x, filters, 1, name",
        "conv2d(x, filters, filters > 0, name",
        "kernel_size is no number but True",
    ),
    "height for width": torch(
        "resnet50", "in_channels, 64, 7,", "in_channels, 64, (7, 5),", "padding"
    ),
    "swapped branches of a choice": torch(
        "resnet50",
        "x if self.downsample is None else self.downsample(x)",
        "x if self.downsample is not None else self.downsample(x)",
        "do not fit",
    ),
    "swapped summands": keras(
        "resnet50",
        "([residual, shortcut])",
        "([shortcut, residual])",
        "layer1.0.add is add() of",
    ),
    "dropped condition": torch(
        "resnet50",
        "if stride != 1 or in_channels != out_channels:",
        "if True:",
        "the parameter layer1.1.downsample.0.weight is none of the network's",
    ),
    "a parameter that is missing": torch(
        "resnet18",
        "self.fc = nn.Linear(512, num_classes)",
        "self.fc = nn.Linear(512, num_classes, bias=False)",
        "None is no parameter",
    ),
    "in place on what the caller needs": torch(
        "resnet50",
        "residual: Tensor = self.conv1(x)",
        f"x = {RELU}\n        residual: Tensor = self.conv1(x)",
        "relu in place changes what relu keeps for its gradient",
    ),
    "another activation": torch(
        "tests/specs/cbam",
        "nn.Sigmoid()",
        "nn.ReLU()",
        "layer1.0.se.channel.excite is relu() of layer1.0.se.channel.sum, and should be sigmoid()",
    ),
    "in place on the images": torch(
        "resnet50", "x = self.conv1(x)\n", f"x = self.conv1({RELU})\n", "changes the images"
    ),
    "in place on a feature": torch(
        "resnet50",
        'features["layer1"] = x\n',
        f'features["layer1"] = x\n        x = {RELU}\n',
        "the feature layer1 is relu",
    ),
    "in place on what its producer keeps": torch(
        "tests/specs/gates_and_pools",
        "place = self.place_gate(place)",
        "place = nn.functional.relu(self.place_gate(place), inplace=True)",
        "relu in place changes what sigmoid keeps for its gradient",
    ),
    "in place on a part of a chunk": torch(
        "tests/specs/res2net",
        "piece = parts[part]\n",
        "piece = nn.functional.relu(parts[part], inplace=True)\n",
        "changes one of several views of one chunk",
    ),
    "a wrong name": torch("resnet50", "self.bn3", "self.norm3", "object has no attribute 'bn3'"),
    "a wrong name of a layer without parameters": keras(
        "resnet50", '{name}_act1"', '{name}_act4"', "the layer layer1_0_act4 is layer1.0.act1: relu"
    ),
    "one name for two layers": keras(
        "resnet50", '{name}_act2"', '{name}_act1"', "the layer layer1.0.act1 runs twice"
    ),
    "a layer without a name": keras(
        "resnet50", 'layers.ReLU(name=f"{name}_act1")', "layers.ReLU()", "a ReLU has no name"
    ),
    "the same layer twice": torch(
        "resnet50",
        "residual = self.bn2(residual)",
        "residual = self.bn1(residual)",
        "the layer layer1.0.bn1 runs twice",
    ),
    "one module under two names": torch(
        "resnet50",
        "        self.apply(init_weights)",
        "        self.again = self.fc\n        self.apply(init_weights)",
        "the parameter again.weight is none of the network's",
    ),
    "a module that hides a method": torch(
        "resnet50",
        "self.bn1 = nn.BatchNorm2d(filters)",
        "self.train = nn.BatchNorm2d(filters)",
        "the layer 'train' hides an attribute",
    ),
    "a wrong initialiser": torch(
        "resnet50", 'mode="fan_out"', 'mode="fan_in"', "the parameter conv1.weight is"
    ),
    "a wrong gain": torch(
        "resnet50", 'nonlinearity="relu"', 'nonlinearity="linear"', "the parameter conv1.weight is"
    ),
    "a wrong fan": keras("resnet50", '"fan_out"', '"fan_in"', "the parameter conv1.weight is"),
    "a wrong axis": torch(
        "tests/specs/gates_and_pools", ".mean(dim=1", ".mean(dim=3", "the avg over (3,)"
    ),
    "a wrong axis to concatenate": keras(
        "densenet121", "layers.Concatenate(", "layers.Concatenate(axis=2, ", "along axis 2"
    ),
    "a feature handed out too late": torch(
        "resnet50",
        'features["layer1"] = x\n        x = self.layer2(x)\n',
        'x = self.layer2(x)\n        features["layer1"] = x\n',
        "the feature layer1 is layer2.3.act3",
    ),
    "a feature that is missing": keras(
        "resnet50_os16",
        '    features["layer3"] = x\n',
        "",
        "the features are ['layer1', 'layer2', 'layer4'",
    ),
    "padding that counts": torch(
        "tests/specs/same_padding",
        "padding=1, count_include_pad=False",
        "padding=1, count_include_pad=True",
        "counted True",
    ),
    "a window that is not kept": torch(
        "tests/specs/ceil_pool", "ceil_mode=True", "ceil_mode=False", "before is"
    ),
    "zeros that may win": keras(
        "tests/specs/ceil_pool", 'float("-inf")', "0.0", "0.0 may be the largest value"
    ),
    "momentum of the other side": keras("resnet50", "0.9,", "0.1,", "momentum 0.9"),
    "an epsilon": keras("resnet50", "1e-5", "1e-3", "eps 0.001"),
    "dropout that is left out": torch(
        "vgg11",
        "        x = self.drop1(x)\n",
        "",
        "drop1 is fc2: linear(channels 4096, features 4096) of act1, and should be dropout(",
    ),
    "a helper that was changed": torch(
        "tests/specs/more_primitives",
        "return torch.maximum(",
        "return torch.minimum(",
        "Threshold: the text of this helper is not the backend's",
    ),
    "other default arguments": torch(
        "resnet50", "num_classes: int = 1000", "num_classes: int = 100", "has the defaults"
    ),
    "a part that is not frozen": torch(
        "resnet50",
        "trained = trained or path == name",
        "trained = path == name",
        "freeze_until('layer1'): layer1.0.conv1.weight is frozen",
    ),
    "children in another order": torch(
        "resnet50",
        "self.conv1 = nn.Conv2d(in_channels, filters, 1, bias=False)\n"
        "        self.bn1 = nn.BatchNorm2d(filters)\n",
        "self.bn1 = nn.BatchNorm2d(filters)\n"
        "        self.conv1 = nn.Conv2d(in_channels, filters, 1, bias=False)\n",
        "layer1.0.conv1 stands after layer1.0.bn1, but runs before it",
    ),
    "a map that is changed in place": torch(
        "resnet50",
        '"module": "act1"',
        '"module": "bn1"',
        "bn1: what a hook was given has changed in place since",
    ),
    "a map of another stride": torch(
        "resnet50",
        '512, "reduction": 8',
        '512, "reduction": 16',
        "layer2 is (512, 28, 44), and not one in 16",
    ),
    "a map of other channels": keras(
        "resnet50", '"num_chs": 512', '"num_chs": 256', "layer2 has 512 channels, and not 256"
    ),
    "a map that is not told": torch(
        "resnet50",
        '{"module": "layer3", "num_chs": 1024, "reduction": 16},',
        "",
        "the stage layer3 is missing",
    ),
    "maps in another order": keras(
        "resnet50",
        '        {"module": "act1", "num_chs": 64, "reduction": 2},\n'
        '        {"module": "layer1", "num_chs": 256, "reduction": 4},\n',
        '        {"module": "layer1", "num_chs": 256, "reduction": 4},\n'
        '        {"module": "act1", "num_chs": 64, "reduction": 2},\n',
        "strides of [4, 2, 8, 16, 32], and not the finest first",
    ),
    "another level of the pyramid": keras(
        "resnet50",
        '"P4": features["layer3"]',
        '"P4": features["layer2"]',
        "the pyramid's P4 is another map than layer3",
    ),
    "a framework that is imported": keras(
        "resnet50", "import keras\n", "import keras\nimport numpy\n", "imports numpy"
    ),
}
