"""The codes of what is wrong in a spec or a block."""

from resnet_spec.diagnostics.codes.code import HEAD, STAGES, TOP, Code, block, layers, stage

READING = {
    "RS001": Code(
        "a file can't be read",
        "You have no permission to read the file, it is a folder, it is larger than a megabyte, "
        "or it is not encoded in UTF-8. A spec is a small UTF-8 text file, with or without a "
        "byte-order mark. Name the file itself, or save it as UTF-8.",
    ),
    "RS002": Code(
        "not valid YAML",
        "The YAML parser stopped at this position, or a quote that begins here is never closed; "
        "nothing after it has been checked. Look for a missing ':', a bracket that is not closed, "
        "a tab, or text with ': ' or '#' in it that needs quotes.",
        TOP.replace("An example", "An example: the first") + STAGES + HEAD,
        TOP.replace("An example", '"An example: the first"') + STAGES + HEAD,
    ),
    "RS003": Code(
        "a duplicate key",
        "Most YAML parsers silently keep the last of two equal keys, so a value that you wrote "
        "would be lost. Each key of a mapping may appear only once. Remove one of them.",
        f"{TOP}classes: 10\nclasses: 100\n{STAGES}{HEAD}",
        f"{TOP}classes: 100\n{STAGES}{HEAD}",
    ),
    "RS004": Code(
        "a YAML feature that specs don't use",
        "Tags, merge keys, several documents in one file, lists as keys, more than 64 levels and "
        "more than 50,000 values are refused. They make a spec hard to read or dangerous to load, "
        "and no network needs them. Anchors and aliases are allowed within these limits.",
        f"{TOP}classes: !!int 10\n{STAGES}{HEAD}",
        f"{TOP}classes: 10\n{STAGES}{HEAD}",
    ),
    "RS005": Code(
        "an empty file",
        "The file has nothing but blanks and comments. A spec begins with its version, a name and "
        "a description. 'resnet-spec init' writes a starter spec.",
        "# a network will stand here\n",
        f"{TOP}{STAGES}{HEAD}",
    ),
    "RS006": Code(
        "a file that a spec may not read",
        "A spec may come from a stranger, and messages show lines of the files that it reads. So "
        "'extends', 'recipe' and blocks may only refer to .yaml or .yml files in the spec's own "
        "folder, below the folder of the settings, or in the package; this holds for the target "
        "of a symbolic link, too. A file named on the command line may be anywhere.",
        f"{TOP}extends: ../../secrets.yaml\n",
        f"{TOP}extends: resnet50\n",
    ),
}

WRITING = {
    "RS101": Code(
        "an unknown key",
        "A misspelled key would otherwise be ignored, and the network would not be the one that "
        "you meant. Every key of a spec, a block, a layer and a stage must be known; a stage also "
        "takes the arguments and slots of its block. The help suggests the closest key, or lists "
        "all.",
        layers("{conv: conv1, filters: 64, kernal: 7}"),
        layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS102": Code(
        "a key is missing",
        "The key is required: no default would suit most networks. The message says where it is "
        "missing, the help what it means. An argument without a default must be given wherever "
        "the block is used, and a layer with parameters needs a name.",
        layers("{conv: conv1, kernel: 7}"),
        layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS103": Code(
        "a value of the wrong type",
        "The key does not take this kind of value: text instead of a number, a list instead of a "
        "mapping, a number out of range. Types are those of YAML 1.2: 'yes' and 'no' are text, "
        "1e-5 is a number, and anything in quotes is text.",
        f"{TOP}classes: ten\n{STAGES}{HEAD}",
        f"{TOP}classes: 10\n{STAGES}{HEAD}",
    ),
    "RS104": Code(
        "channels are not divisible by the groups of a convolution",
        "A grouped convolution divides its input channels and its filters evenly among the "
        "groups, so both must be multiples of 'groups'. Change the filters, the groups, or the "
        "previous layer.",
        layers(
            "{conv: conv1, filters: 64, kernel: 7}",
            "{conv: conv2, filters: 1000, kernel: 3, groups: 32}",
        ),
        layers(
            "{conv: conv1, filters: 64, kernel: 7}",
            "{conv: conv2, filters: 1024, kernel: 3, groups: 32}",
        ),
    ),
    "RS105": Code(
        "a name that can't be used",
        "Names become variables, functions, classes and files of the generated code. They have "
        "letters, digits and '_', and are not Python keywords. A layer's name can have any number "
        "of parts separated by '.', and parts can be numbers. A variable that would hide a name "
        "that the file uses is renamed: 'sum' becomes 'sum_'. A block must be named like its "
        "file. Words with a special meaning in expressions, such as 'i' and 'in_channels', can't "
        "be redefined.",
        TOP.replace("name: example", "name: my-net") + STAGES + HEAD,
        TOP.replace("name: example", "name: my_net") + STAGES + HEAD,
    ),
    "RS106": Code(
        "a name is taken",
        "Two layers, stages, arguments or slots have the same name, so saved weights would be "
        "lost; or one layer would be inside another, as 'conv.bn' in 'conv'. Rename one of them. "
        'In a loop, put the counter into the name, as in "conv.{k}". A layer without a name is '
        "named after its kind, the second in the same list of layers gets a 2, and in loops the "
        "counters are added: 'act', 'act2', 'max_pool3.0'.",
        layers("{conv: conv1, filters: 64, kernel: 7}", "{conv: conv1, filters: 64, kernel: 3}"),
        layers("{conv: conv1, filters: 64, kernel: 7}", "{conv: conv2, filters: 64, kernel: 3}"),
    ),
    "RS107": Code(
        "a spec that can't be found, or extends itself",
        "Refer to a spec by its path, or by its name if it is built in; 'resnet-spec list' prints "
        "the built-in ones. A path after 'extends' is relative to the file that contains it. "
        "Specs may extend one another up to 16 times, but not in a circle.",
        f"{TOP}extends: resnet51\n",
        f"{TOP}extends: resnet50\n",
    ),
    "RS108": Code(
        "a change, a default, an argument or a rule that has no effect",
        "With 'extends' and --set, a list of stages or layers is changed by the names of its "
        "items: 'stages.layer4.repeat=2', or a mapping under 'stages'. The name must exist in the "
        "list; 'none' removes the item, a mapping changes some of its keys, and a list replaces "
        "the whole list. Some layer must use each default that the spec itself states, the block "
        "each argument and slot that a line gives to it, the head the number of 'classes'; and "
        "each rule of 'rename' must lead to weights of the network. Defaults and rules inherited "
        "from an extended spec may be unused.",
        f"{TOP}extends: resnet50\nstages:\n  layer5: {{repeat: 2}}\n",
        f"{TOP}extends: resnet50\nstages:\n  layer4: {{repeat: 2}}\n",
    ),
    "RS109": Code(
        "a training recipe whose values do not fit together",
        "Each value is valid by itself, but not together with the others: a milestone after the "
        "end of training, a schedule without what it needs, means without standard deviations. "
        "The length, the milestones and the warm-up are all in the unit given by 'unit', epochs "
        "or steps. Values of the recipe apply unless the spec sets others.",
        f"{TOP}{STAGES}{HEAD}training: {{recipe: cifar_paper, length: 20000}}\n",
        f"{TOP}{STAGES}{HEAD}training: {{recipe: cifar_paper, length: 50000}}\n",
    ),
}

EXPRESSIONS = {
    "RS201": Code(
        "not an expression",
        "An expression can only have numbers, names, + - * / // % **, comparisons, and, or, not, "
        "'a if b else c' and a few functions. It looks like Python but is never run as Python. "
        "Within {…} or […], put quotes around an expression that contains a comma.",
        layers("{conv: conv1, filters: sqrt(64), kernel: 7}"),
        layers('{conv: conv1, filters: "max(8, 64)", kernel: 7}'),
    ),
    "RS202": Code(
        "an undefined name",
        "An expression can use the arguments and 'let' values of its own block, in_channels, and "
        "the counters of the loops around it; an argument passed to a block can also use i, n, "
        "block_index and block_count. A 'let' value can use those above it. All branches are "
        "checked, even those that are not taken.",
        f"{TOP}let: {{width: 64}}\nstages:\n"
        f"  - {{name: layer1, block: basic, filters: widht}}\n{HEAD}",
        f"{TOP}let: {{width: 64}}\nstages:\n"
        f"  - {{name: layer1, block: basic, filters: width}}\n{HEAD}",
    ),
    "RS203": Code(
        "an expression without a value",
        "The expression divides by zero, takes a logarithm of a number that has none, or exceeds "
        "2**53, up to which whole numbers are exact. Infinity and NaN are refused for the same "
        "reason. The message shows the numbers involved.",
        layers("{conv: conv1, filters: 64 // 0, kernel: 7}"),
        layers("{conv: conv1, filters: 64 // 2, kernel: 7}"),
    ),
    "RS204": Code(
        "a number of the wrong kind",
        "Sizes and counts are whole numbers, switches are true or false. Division with / always "
        "gives a number with a fraction; // gives a whole one. The number of repetitions of a "
        "block or loop can't depend on the number of classes or input channels, since these are "
        "arguments of the generated code.",
        layers("{conv: conv1, filters: 64 / 2, kernel: 7}"),
        layers("{conv: conv1, filters: 64 // 2, kernel: 7}"),
    ),
    "RS205": Code(
        "a number out of range",
        "The number is of the right kind, but nothing can be built with it: no filters, a kernel "
        "of size zero, a probability above one, a million repetitions. The message gives the "
        "limit. If the number is computed, the chain of uses shows where its inputs come from.",
        stage("{name: layer1, block: basic, repeat: 0, filters: 16}"),
        stage("{name: layer1, block: basic, repeat: 1, filters: 16}"),
    ),
}

BLOCKS = {
    "RS301": Code(
        "a block that can't be found",
        "A block is searched for under 'blocks' in the spec, then in the folder 'blocks' next to "
        "it (basic is blocks/basic.yaml), then among the built-in blocks. A slot also accepts the "
        "name of a primitive.",
        stage("{name: layer1, block: basik, filters: 16}"),
        stage("{name: layer1, block: basic, filters: 16}"),
    ),
    "RS302": Code(
        "a block inside itself",
        "A block that contains itself, directly, through other blocks or through its slots, has "
        "no end. For the same reason, blocks can be nested at most 24 deep. Use 'repeat' to chain "
        "copies of a block.",
        block("layers:\n  - {block: own, name: inner}"),
        block("layers:\n  - {block: transition, name: inner}"),
    ),
    "RS304": Code(
        "a slot that does not exist, or can't be filled like this",
        "A slot is a place in a block that the user of the block fills: with 'none', with the "
        "name of a block or primitive, or with {name: {argument: value}}. A block declares its "
        "slots under 'slots'; norm and act exist in every block. Arguments that the block itself "
        "passes to the slot can't be set again.",
        stage("{name: layer1, block: basic, filters: 16, attention: [relu, tanh]}"),
        stage("{name: layer1, block: basic, filters: 16, attention: squeeze_excitation}"),
    ),
    "RS305": Code(
        "a network that is too large",
        "Nested repetitions grow quickly. A network can have at most 50,000 operations, and its "
        "blocks at most 20,000 lines to work through, counting equal blocks once; the deepest "
        "published networks stay far below. Lower a 'repeat' or a 'count'.",
        block(
            "layers:\n  - for: a\n    count: 2000\n    layers:\n"
            '      - {for: b, count: 2000, layers: [{act: "act.{a}.{b}"}]}'
        ),
        block(
            "layers:\n  - for: a\n    count: 20\n    layers:\n"
            '      - {for: b, count: 20, layers: [{act: "act.{a}.{b}"}]}'
        ),
    ),
    "RS306": Code(
        "a value that does not exist",
        "'from', 'else' and the inputs of add, multiply and concat name values: x, the block's "
        "input, or a value that an earlier layer names with 'as'. 'split' gives a list, whose "
        'elements are part.0 or "part.{i}"; elements are added to a list in order, starting at '
        "0. A value must be defined above its use, in the same block.",
        block(
            "layers:\n  - {conv: conv1, filters: in_channels, kernel: 3, as: residual}\n"
            "  - {add: [residul, x]}"
        ),
        block(
            "layers:\n  - {conv: conv1, filters: in_channels, kernel: 3, as: residual}\n"
            "  - {add: [residual, x]}"
        ),
    ),
}

SHAPES = {
    "RS401": Code(
        "shapes that can't be added or multiplied",
        "Values that are added must have the same channels, height and width. A value that scales "
        "another can also be 1x1 or have a single channel. Shapes are written channels x height x "
        "width. Usually the shortcut needs the stride or the filters of the residual.",
        block(
            "layers:\n  - {conv: conv1, filters: 64, kernel: 3, stride: 2, as: residual}\n"
            "  - {add: [residual, x]}"
        ),
        block(
            "layers:\n  - {conv: conv1, filters: 64, kernel: 3, stride: 2, as: residual}\n"
            "  - {conv: shortcut, from: x, filters: 64, kernel: 1, stride: 2, as: shortcut}\n"
            "  - {add: [residual, shortcut]}"
        ),
    ),
    "RS402": Code(
        "shapes that can't be concatenated",
        "Values are concatenated along their channels, so their heights and widths must be equal. "
        "Give all branches the same stride and padding.",
        block(
            "layers:\n  - {conv: conv1, filters: 64, kernel: 3, stride: 2, as: new}\n"
            "  - {concat: [x, new]}"
        ),
        block(
            "layers:\n  - {conv: conv1, filters: 64, kernel: 3, as: new}\n  - {concat: [x, new]}"
        ),
    ),
    "RS403": Code(
        "nothing is left of a feature map",
        "The window of a convolution or pooling does not fit into its padded input, or padding "
        "fills more than half of a pooling window. Usually there are too many strides for this "
        "input size. Use fewer strides, a smaller kernel, more padding, or a larger input.",
        f"{TOP}input: {{height: 32, width: 32}}\n"
        f"stem:\n  - {{conv: conv1, filters: 64, kernel: 33, padding: 0}}\n{STAGES}{HEAD}",
        f"{TOP}input: {{height: 32, width: 32}}\n"
        f"stem:\n  - {{conv: conv1, filters: 64, kernel: 7}}\n{STAGES}{HEAD}",
    ),
    "RS404": Code(
        "a map where a vector is needed, or the other way round",
        "Convolutions and poolings work on feature maps (channels x height x width), linear "
        "layers on vectors (channels). global_avg_pool turns a map into a vector; with keep_map: "
        "true it gives a 1x1 map.",
        f"{TOP}{STAGES}head:\n  - {{linear: fc, features: classes}}\n",
        f"{TOP}{STAGES}{HEAD}",
    ),
    "RS405": Code(
        "channels that can't be divided evenly",
        "'split', 'shuffle', 'group_norm' and grouped 'softmax' divide the channels into equal "
        "parts. Choose a number that divides the channels, or change the layer that produces "
        "them.",
        layers("{conv: conv1, filters: 64, kernel: 7}", "{group_norm: norm1, groups: 24}"),
        layers("{conv: conv1, filters: 64, kernel: 7}", "{group_norm: norm1, groups: 16}"),
    ),
    "RS406": Code(
        "a number differs from the expected one",
        "'expect' has numbers that you know from elsewhere, such as the parameter count that a "
        "paper reports; every compile checks them. Either the network is not the one that you "
        "meant, or the number counts something else. Parameters are trainable parameters, running "
        "statistics are counted separately, and macs are multiply-adds for one image.",
        f"{TOP}extends: resnet18\nexpect: {{parameters: 11000000}}\n",
        f"{TOP}extends: resnet18\nexpect: {{parameters: 11689512}}\n",
    ),
}
