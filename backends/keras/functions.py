"""The functions at the top of a Keras module, which has those that it needs as it uses them."""

from keras import KerasTensor, initializers, layers, ops

from resnet_spec.backends.keras.layers import BatchNormalization, StandardizedConv2D


def conv2d(
    x: KerasTensor,
    filters: int,
    kernel_size: int,
    *,
    stride: int,
    padding: int,
    dilation: int,
    groups: int,
    bias: bool,
    init: str | initializers.Initializer,
    bias_init: str | initializers.Initializer,
    standardize: bool,
    epsilon: float,
    name: str,
) -> KerasTensor:
    """Convolution{biased}{padded}."""
    # Without a stride, padding="same" is symmetric.
    same = stride == 1 and 2 * padding == dilation * (kernel_size - 1)
    if padding > 0 and not same:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    if standardize:
        return StandardizedConv2D(
            filters,
            kernel_size,
            strides=stride,
            dilation_rate=dilation,
            groups=groups,
            use_bias=bias,
            padding="same" if same else "valid",
            kernel_initializer=init,
            bias_initializer=bias_init,
            epsilon=epsilon,
            name=name,
        )(x)
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        dilation_rate=dilation,
        groups=groups,
        use_bias=bias,
        padding="same" if same else "valid",
        kernel_initializer=init,
        bias_initializer=bias_init,
        name=name,
    )(x)


def batch_norm(
    x: KerasTensor,
    *,
    epsilon: float,
    momentum: float,
    init: str | initializers.Initializer,
    exact: bool,
    name: str,
) -> KerasTensor:
    """Batch normalisation over each channel."""
    if exact:
        return BatchNormalization(
            momentum=momentum, epsilon=epsilon, gamma_initializer=init, name=name
        )(x)
    return layers.BatchNormalization(
        momentum=momentum, epsilon=epsilon, gamma_initializer=init, name=name
    )(x)


def max_pool(
    x: KerasTensor,
    pool_size: int,
    *,
    stride: int,
    padding: int,
    ceil: bool,
    name: str,
) -> KerasTensor:
    """Max pooling of non-negative values, which zero padding never exceeds."""
    if padding > 0 and not ceil:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    # The last window may stick out by up to stride - 1, so pad as much.
    if ceil:
        far = padding + stride - 1
        x = layers.ZeroPadding2D(((padding, far), (padding, far)), name=f"{name}_pad")(
            x
        )
    return layers.MaxPooling2D(pool_size, strides=stride, name=name)(x)


def max_pool_signed(
    x: KerasTensor,
    pool_size: int,
    *,
    stride: int,
    padding: int,
    ceil: bool,
    name: str,
) -> KerasTensor:
    """Max pooling with -inf padding."""
    if padding > 0 and not ceil:
        x = ops.pad(
            x,
            ((0, 0), (padding, padding), (padding, padding), (0, 0)),
            constant_values=float("-inf"),
        )
    # The last window may stick out by up to stride - 1, so pad as much.
    if ceil:
        far = padding + stride - 1
        x = ops.pad(
            x,
            ((0, 0), (padding, far), (padding, far), (0, 0)),
            constant_values=float("-inf"),
        )
    return layers.MaxPooling2D(pool_size, strides=stride, name=name)(x)


def avg_pool(
    x: KerasTensor, pool_size: int, *, stride: int, padding: int, name: str
) -> KerasTensor:
    """Average pooling that counts padding as zeros."""
    if padding > 0:
        x = layers.ZeroPadding2D(padding, name=f"{name}_pad")(x)
    return layers.AveragePooling2D(pool_size, strides=stride, name=name)(x)


def blur_pool(x: KerasTensor, *, stride: int, name: str) -> KerasTensor:
    """Blur by (1, 2, 1) / 4, then subsample by the stride."""
    x = ops.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    # Averaging two neighbours twice is the filter (1, 2, 1) / 4.
    x = layers.AveragePooling2D(2, strides=1, name=f"{name}_blur")(x)
    return layers.AveragePooling2D(2, strides=stride, name=name)(x)


def channel_conv(
    x: KerasTensor,
    kernel_size: int,
    *,
    init: str | initializers.Initializer,
    name: str,
) -> KerasTensor:
    """1-D convolution along the channels of a 1x1 map."""
    channels = x.shape[-1]
    x = layers.Reshape((channels, 1), name=f"{name}_in")(x)
    x = layers.Conv1D(
        1,
        kernel_size,
        padding="same",
        use_bias=False,
        kernel_initializer=init,
        name=name,
    )(x)
    return layers.Reshape((1, 1, channels), name=f"{name}_out")(x)
