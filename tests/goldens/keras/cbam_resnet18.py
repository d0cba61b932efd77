"""ResNet-18 with attention over channels and over places.

https://arxiv.org/abs/1807.06521

Input: 3x224x224, 1000 classes.

stage   output     blocks     parameters  multiply-adds
stem    64x56x56                   9,536    118,013,952
layer1  64x56x56   basic x 2     149,328    463,038,720
layer2  128x28x28  basic x 2     530,136    411,203,648
layer3  256x14x14  basic x 2   2,116,840    411,112,976
layer4  512x7x7    basic x 2   8,460,552    411,182,468
head    1000                     513,000        512,000
total                         11,779,392  1,815,063,764
"""

import keras
from keras import KerasTensor, initializers, layers, ops


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int = 1,
    padding: int = 0,
    bias: bool = False,
    name: str,
) -> KerasTensor:
    """Convolution, symmetrically padded."""
    # Without a stride, padding="same" is symmetric.
    same = stride == 1 and 2 * padding == kernel_size - 1
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        use_bias=bias,
        padding="same" if same else "valid",
        kernel_initializer=initializers.VarianceScaling(
            2.0, "fan_out", "untruncated_normal"
        ),
        name=name,
    )(x)


def batch_norm(x: KerasTensor, *, name: str) -> KerasTensor:
    """Batch normalisation over each channel."""
    return layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def max_pool(x: KerasTensor, pool_size: int, *, name: str) -> KerasTensor:
    """Max pooling of non-negative values, which zero padding never exceeds."""
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    return layers.MaxPooling2D(pool_size, strides=2, name=name)(x)


def channel_attention(x: KerasTensor, *, name: str) -> KerasTensor:
    """Scales each channel by a gate from its mean and maximum (Woo et al. 2018)."""
    in_channels = x.shape[-1]
    squeezed = max(in_channels // 16, 1)

    average = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_average")(x)
    maximum = layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_maximum")(x)
    gate = layers.Concatenate(axis=1, name=f"{name}_both")([average, maximum])
    gate = conv2d(gate, squeezed, 1, bias=True, name=f"{name}_fc1")
    gate = layers.ReLU(name=f"{name}_act")(gate)

    gate = conv2d(gate, in_channels, 1, bias=True, name=f"{name}_fc2")
    gate = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(gate)
    gate = gate * 2.0
    gate = layers.Activation("sigmoid", name=f"{name}_excite")(gate)

    return layers.Multiply(name=f"{name}_scale")([x, gate])


def spatial_attention(x: KerasTensor, *, name: str) -> KerasTensor:
    """Scales each position by a gate from its surroundings (Woo et al. 2018)."""
    average = ops.mean(x, axis=-1, keepdims=True)
    maximum = ops.max(x, axis=-1, keepdims=True)
    gate = layers.Concatenate(name=f"{name}_both")([average, maximum])
    gate = conv2d(gate, 1, 7, padding=3, name=f"{name}_conv")
    gate = batch_norm(gate, name=f"{name}_bn")
    gate = layers.Activation("sigmoid", name=f"{name}_excite")(gate)

    return layers.Multiply(name=f"{name}_scale")([x, gate])


def cbam(x: KerasTensor, *, name: str) -> KerasTensor:
    """Attention over channels, then over positions (Woo et al. 2018)."""
    x = channel_attention(x, name=f"{name}_channel")
    return spatial_attention(x, name=f"{name}_spatial")


def projection(x: KerasTensor, filters: int, *, name: str) -> KerasTensor:
    """1x1 convolution that fits the shortcut to the residual (option B)."""
    x = conv2d(x, filters, 1, stride=2, name=f"{name}_0")
    return batch_norm(x, name=f"{name}_1")


def basic(x: KerasTensor, filters: int, stride: int = 1, *, name: str) -> KerasTensor:
    """Two 3x3 convolutions and a shortcut (He et al. 2015, figure 5, left)."""
    in_channels = x.shape[-1]

    residual = conv2d(x, filters, 3, stride=stride, padding=1, name=f"{name}_conv1")
    residual = batch_norm(residual, name=f"{name}_bn1")
    residual = layers.ReLU(name=f"{name}_act1")(residual)

    residual = conv2d(residual, filters, 3, padding=1, name=f"{name}_conv2")
    residual = batch_norm(residual, name=f"{name}_bn2")

    residual = cbam(residual, name=f"{name}_se")
    shortcut = x
    if stride != 1 or in_channels != filters:
        shortcut = projection(x, filters, name=f"{name}_downsample")
    x = layers.Add(name=f"{name}_add")([residual, shortcut])
    return layers.ReLU(name=f"{name}_act2")(x)


def stages(x: KerasTensor) -> dict[str, KerasTensor]:
    """The output of each stage, by its name, for images (N, H, W, C)."""
    features = {}
    x = conv2d(x, 64, 7, stride=2, padding=3, name="conv1")
    x = batch_norm(x, name="bn1")
    x = layers.ReLU(name="act1")(x)
    x = max_pool(x, 3, name="maxpool")

    for i in range(2):
        x = basic(x, 64, name=f"layer1_{i}")
    features["layer1"] = x

    x = basic(x, 128, stride=2, name="layer2_0")
    x = basic(x, 128, name="layer2_1")
    features["layer2"] = x

    x = basic(x, 256, stride=2, name="layer3_0")
    x = basic(x, 256, name="layer3_1")
    features["layer3"] = x

    x = basic(x, 512, stride=2, name="layer4_0")
    x = basic(x, 512, name="layer4_1")
    features["layer4"] = x
    return features


def cbam_resnet18(
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build cbam_resnet18 with random weights."""
    inputs = keras.Input(input_shape, name="images")
    x = stages(inputs)["layer4"]
    x = layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = layers.Dense(
        num_classes,
        kernel_initializer=initializers.RandomNormal(stddev=0.01),
        name="fc",
    )(x)
    return keras.Model(inputs, x, name="cbam_resnet18")


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


def cbam_resnet18_features(
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
) -> keras.Model:
    """Build the backbone alone: one output for each stage, by its name."""
    inputs = keras.Input(input_shape, name="images")
    features = stages(inputs)
    model = keras.Model(inputs, features, name="cbam_resnet18_features")
    # The maps that others build upon, finest first, in the words of timm and of KerasHub.
    model.feature_info = [
        {"module": "act1", "num_chs": 64, "reduction": 2},
        {"module": "layer1", "num_chs": 64, "reduction": 4},
        {"module": "layer2", "num_chs": 128, "reduction": 8},
        {"module": "layer3", "num_chs": 256, "reduction": 16},
        {"module": "layer4", "num_chs": 512, "reduction": 32},
    ]
    model.pyramid_outputs = {
        "P1": model.get_layer("act1").output,
        "P2": features["layer1"],
        "P3": features["layer2"],
        "P4": features["layer3"],
        "P5": features["layer4"],
    }
    return model
