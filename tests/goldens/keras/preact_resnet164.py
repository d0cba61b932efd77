"""Pre-activation ResNet-164 for CIFAR-10.

https://arxiv.org/abs/1603.05027

Input: 3x32x32, 10 classes.

stage   output     blocks                  parameters  multiply-adds
stem    16x32x32                                  432        442,368
layer1  64x32x32   preact_bottleneck x 18      81,952     80,478,208
layer2  128x16x16  preact_bottleneck x 18     326,272     83,361,792
layer3  256x8x8    preact_bottleneck x 18   1,291,520     83,361,792
head    10                                      3,082          2,560
total                                       1,703,258    247,646,720
"""

import keras
from keras import KerasTensor, initializers, layers


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    name: str,
) -> KerasTensor:
    """Convolution without a bias, symmetrically padded."""
    # Without a stride, padding="same" is symmetric.
    same = stride == 1 and 2 * padding == kernel_size - 1
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        use_bias=False,
        padding="same" if same else "valid",
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=name,
    )(x)


def batch_norm(x: KerasTensor, *, name: str) -> KerasTensor:
    """Batch normalisation over each channel."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def conv_shortcut(
    x: KerasTensor, filters: int, stride: int = 1, *, name: str
) -> KerasTensor:
    """1x1 convolution that fits the shortcut to the residual, without a norm."""
    return conv2d(x, filters, 1, stride=stride, name=f"{name}_conv")


def preact_bottleneck(
    x: KerasTensor, filters: int, stride: int = 1, *, name: str
) -> KerasTensor:
    """Norm and activation before each convolution (He et al. 2016, figure 4e)."""
    in_channels = x.shape[-1]
    out_channels = filters * 4

    preact = batch_norm(x, name=f"{name}_norm1")
    preact = layers.ReLU(name=f"{name}_act1")(preact)

    shortcut = x
    if stride != 1 or in_channels != out_channels:
        shortcut = conv_shortcut(
            preact, out_channels, stride=stride, name=f"{name}_downsample"
        )
    residual = conv2d(preact, filters, 1, name=f"{name}_conv1")

    residual = batch_norm(residual, name=f"{name}_norm2")
    residual = layers.ReLU(name=f"{name}_act2")(residual)
    residual = conv2d(
        residual, filters, 3, stride=stride, padding=1, name=f"{name}_conv2"
    )

    residual = batch_norm(residual, name=f"{name}_norm3")
    residual = layers.ReLU(name=f"{name}_act3")(residual)
    residual = conv2d(residual, out_channels, 1, name=f"{name}_conv3")

    return layers.Add(name=f"{name}_add")([residual, shortcut])


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(x, 16, 3, padding=1, name="conv1")

    x = preact_bottleneck(x, 16, name="layer1_0")
    for i in range(1, 18):
        x = preact_bottleneck(x, 16, name=f"layer1_{i}")
    features["layer1"] = x

    x = preact_bottleneck(x, 32, stride=2, name="layer2_0")
    for i in range(1, 18):
        x = preact_bottleneck(x, 32, name=f"layer2_{i}")
    features["layer2"] = x

    x = preact_bottleneck(x, 64, stride=2, name="layer3_0")
    for i in range(1, 18):
        x = preact_bottleneck(x, 64, name=f"layer3_{i}")
    features["layer3"] = x
    return features


def preact_resnet164(
    num_classes: int = 10, input_shape: tuple[int | None, int | None, int] = (32, 32, 3)
) -> keras.Model:
    """Build preact_resnet164 with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer3"]
    x = batch_norm(x, name="norm")
    x = layers.ReLU(name="act")(x)

    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="preact_resnet164")


def freeze_until(model: keras.Model, name: str) -> None:
    """Freeze every layer before the stage or layer `name`, and train the rest.

    Frozen batch norms run in inference mode, so their moving statistics do not change.
    Compile the model afterwards.
    """
    prefix = f"{name}_"
    if not any(f"{layer.name}_".startswith(prefix) for layer in model.layers):
        raise ValueError(f"there is no stage or layer {name!r}")
    trained = False
    for layer in model.layers:
        trained = trained or f"{layer.name}_".startswith(prefix)
        layer.trainable = trained


def preact_resnet164_features(
    input_shape: tuple[int | None, int | None, int] = (32, 32, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="preact_resnet164_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "layer1", "num_chs": 64, "reduction": 1},
        {"module": "layer2", "num_chs": 128, "reduction": 2},
        {"module": "layer3", "num_chs": 256, "reduction": 4},
    ]
    model.pyramid_outputs = {
        "P0": features["layer1"],
        "P1": features["layer2"],
        "P2": features["layer3"],
    }
    return model
