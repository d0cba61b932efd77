"""DenseNet-121 with bottlenecks and compression.

https://arxiv.org/abs/1608.06993

Input: 3x224x224, 1000 classes.

stage                 output      blocks            parameters  multiply-adds
stem                  64x56x56                           9,536    118,013,952
features.denseblock1  256x56x56   dense_layer x 6      335,040  1,040,449,536
features.transition1  128x28x28   transition            33,280    102,760,448
features.denseblock2  512x28x28   dense_layer x 12     919,680    712,900,608
features.transition2  256x14x14   transition           132,096    102,760,448
features.denseblock3  1024x14x14  dense_layer x 24   2,837,760    549,126,144
features.transition3  512x7x7     transition           526,336    102,760,448
features.denseblock4  1024x7x7    dense_layer x 16   2,158,080    104,366,080
head                  1000                           1,027,048      1,024,000
total                                                7,978,856  2,834,161,664
"""

import keras
from keras import KerasTensor, initializers, layers


def batch_norm(x: KerasTensor, *, name: str) -> KerasTensor:
    """Batch normalisation over each channel."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


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
            2.0, "fan_in", "untruncated_normal"
        ),
        name=name,
    )(x)


def max_pool(x: KerasTensor, pool_size: int, *, name: str) -> KerasTensor:
    """Max pooling of non-negative values, which zero padding never exceeds."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(pool_size, strides=2, name=name)(x)


def dense_layer(x: KerasTensor, *, name: str) -> KerasTensor:
    """Concatenates new channels to all previous ones (Huang et al. 2016)."""
    new = batch_norm(x, name=f"{name}_norm1")
    new = layers.ReLU(name=f"{name}_relu1")(new)
    new = conv2d(new, 128, 1, name=f"{name}_conv1")

    new = batch_norm(new, name=f"{name}_norm2")
    new = layers.ReLU(name=f"{name}_relu2")(new)
    new = conv2d(new, 32, 3, padding=1, name=f"{name}_conv2")

    return layers.Concatenate(name=f"{name}_concat")([x, new])


def transition(x: KerasTensor, *, name: str) -> KerasTensor:
    """Halves the channels, then height and width (Huang et al. 2016)."""
    in_channels = x.shape[-1]

    x = batch_norm(x, name=f"{name}_norm")
    x = layers.ReLU(name=f"{name}_relu")(x)
    x = conv2d(x, in_channels // 2, 1, name=f"{name}_conv")
    return layers.AveragePooling2D(2, name=f"{name}_pool")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(x, 64, 7, stride=2, padding=3, name="features_conv0")
    x = batch_norm(x, name="features_norm0")
    x = layers.ReLU(name="features_relu0")(x)
    x = max_pool(x, 3, name="features_pool0")

    for i in range(6):
        x = dense_layer(x, name=f"features_denseblock1_denselayer{i + 1}")
    features["features.denseblock1"] = x

    x = transition(x, name="features_transition1")
    for i in range(12):
        x = dense_layer(x, name=f"features_denseblock2_denselayer{i + 1}")
    features["features.denseblock2"] = x

    x = transition(x, name="features_transition2")
    for i in range(24):
        x = dense_layer(x, name=f"features_denseblock3_denselayer{i + 1}")
    features["features.denseblock3"] = x

    x = transition(x, name="features_transition3")
    for i in range(16):
        x = dense_layer(x, name=f"features_denseblock4_denselayer{i + 1}")
    features["features.denseblock4"] = x
    return features


def densenet121(
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build densenet121 with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["features.denseblock4"]
    x = batch_norm(x, name="features_norm5")
    x = layers.ReLU(name="features_relu5")(x)

    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.VarianceScaling(1 / 3, "fan_in", "uniform"),
        name="classifier",
    )(x)
    return keras.Model(inputs, x, name="densenet121")


def freeze_until(model: keras.Model, name: str) -> None:
    """Freeze every layer before the stage or layer `name`, and train the rest.

    Frozen batch norms run in inference mode, so their moving statistics do not change.
    Compile the model afterwards.
    """
    prefix = f"{name.replace('.', '_')}_"
    if not any(f"{layer.name}_".startswith(prefix) for layer in model.layers):
        raise ValueError(f"there is no stage or layer {name!r}")
    trained = False
    for layer in model.layers:
        trained = trained or f"{layer.name}_".startswith(prefix)
        layer.trainable = trained


def densenet121_features(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="densenet121_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "features_relu0", "num_chs": 64, "reduction": 2},
        {"module": "features.denseblock1", "num_chs": 256, "reduction": 4},
        {"module": "features.denseblock2", "num_chs": 512, "reduction": 8},
        {"module": "features.denseblock3", "num_chs": 1024, "reduction": 16},
        {"module": "features.denseblock4", "num_chs": 1024, "reduction": 32},
    ]
    model.pyramid_outputs = {
        "P1": model.get_layer("features_relu0").output,
        "P2": features["features.denseblock1"],
        "P3": features["features.denseblock2"],
        "P4": features["features.denseblock3"],
        "P5": features["features.denseblock4"],
    }
    return model
