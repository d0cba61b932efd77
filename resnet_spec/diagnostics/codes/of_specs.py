"""The codes of what is wrong in a spec or a block."""

from resnet_spec.diagnostics.codes.code import HEAD, STAGES, TOP, Code, block, layers, stage

READING = {
    "RS001": Code(
        "a file can't be read",
        "The file is missing its permission to be read, is a folder, is larger than a megabyte, "
        "or is not encoded in UTF-8. A spec is a small text file in UTF-8, with or without a "
        "byte-order mark. Name the file itself, or save it again as UTF-8.",
    ),
    "RS002": Code(
        "not valid YAML",
        "The text can't be read as YAML, so nothing else can be said about it yet. The position is "
        "where the parser gave up, or where a quote that is never closed begins. Look for a "
        "missing ':', a bracket that is not closed, a tab, and text with ': ' or '#' in it that "
        "needs quotes.",
        TOP.replace("An example", "An example: the first") + STAGES + HEAD,
        TOP.replace("An example", '"An example: the first"') + STAGES + HEAD,
    ),
    "RS003": Code(
        "a key stands twice",
        "Most YAML readers take the last of two equal keys and say nothing, so a value that you "
        "wrote would be lost. Each key of a mapping may stand once. Remove one of them.",
        f"{TOP}classes: 10\nclasses: 100\n{STAGES}{HEAD}",
        f"{TOP}classes: 100\n{STAGES}{HEAD}",
    ),
    "RS004": Code(
        "a feature of YAML that specs don't use",
        "Tags, merge keys, several documents in one file, lists as keys, more than 64 levels and "
        "more than 50,000 values are refused. They make a spec hard to read or dangerous to load, "
        "and a network needs none of them. Anchors and aliases are fine within these limits.",
        f"{TOP}classes: !!int 10\n{STAGES}{HEAD}",
        f"{TOP}classes: 10\n{STAGES}{HEAD}",
    ),
    "RS005": Code(
        "an empty file",
        "There is nothing in the file but blanks and comments. A spec begins with its version, a "
        "name and a description. 'resnet-spec init' writes one to start from.",
        "# a network will stand here\n",
        f"{TOP}{STAGES}{HEAD}",
    ),
    "RS006": Code(
        "a file that a spec may not read",
        "A spec may be a stranger's, and messages show lines of what it reads. So 'extends', "
        "'recipe' and blocks lead to files ending in .yaml or .yml that lie in the spec's own "
        "folder, below the folder of the settings, or come with the package, links followed. "
        "What the command line names is read wherever it is.",
        f"{TOP}extends: ../../secrets.yaml\n",
        f"{TOP}extends: resnet50\n",
    ),
}

WRITING = {
    "RS101": Code(
        "an unknown key",
        "A key that is misspelled would otherwise do nothing, and the network would not be the one "
        "that you meant. Every key of a spec, a block, a layer and a stage must be known; a stage "
        "also takes the arguments and slots of its block. The help names the nearest key, or all.",
        layers("{conv: conv1, filters: 64, kernal: 7}"),
        layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS102": Code(
        "a key is missing",
        "The key has no default, because no value would be right for most networks. The message "
        "says where it is missing, the help what it means. An argument of a block without a "
        "default must be given wherever the block is used, and a layer with parameters needs a "
        "name.",
        layers("{conv: conv1, kernel: 7}"),
        layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS103": Code(
        "a value of the wrong type",
        "The value stands at the right place but is not what the key takes: a text instead of a "
        "number, a list instead of a mapping, a number out of its range. Types are those of YAML "
        "1.2: 'yes' and 'no' are text, 1e-5 is a number, and quotes make a text of anything.",
        f"{TOP}classes: ten\n{STAGES}{HEAD}",
        f"{TOP}classes: 10\n{STAGES}{HEAD}",
    ),
    "RS104": Code(
        "channels are not divisible by the groups of a convolution",
        "A grouped convolution deals its input channels and its filters out evenly, so both must "
        "be multiples of 'groups'. Change the filters, the groups, or the layer before.",
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
        "Names become variables, functions, classes and files of the generated code, so they are "
        "made of letters, digits and '_' and are no words of Python. A layer's name may have any "
        "number of parts with '.' between them, numbers among them. A variable that would hide "
        "what a file uses itself is written otherwise: 'sum' becomes 'sum_'. A block is called "
        "like its file. Words that the language gives a meaning of its "
        "own, such as 'i' and 'in_channels', can't be given another.",
        TOP.replace("name: example", "name: my-net") + STAGES + HEAD,
        TOP.replace("name: example", "name: my_net") + STAGES + HEAD,
    ),
    "RS106": Code(
        "a name is taken",
        "Two layers, stages, arguments or slots share a name, so one of them could not be told "
        "from the other, and saved weights would be lost; or a layer would be within another, as "
        "'conv.bn' in 'conv'. Give one of them another name. In a loop, put the counter into the "
        'name, as in "conv.{k}". What has no name is called as what it is, the second of a body '
        "with a 2 behind, and in loops with the counters: 'act', 'act2', 'max_pool3.0'.",
        layers("{conv: conv1, filters: 64, kernel: 7}", "{conv: conv1, filters: 64, kernel: 3}"),
        layers("{conv: conv1, filters: 64, kernel: 7}", "{conv: conv2, filters: 64, kernel: 3}"),
    ),
    "RS107": Code(
        "a spec that can't be found, or extends itself",
        "A spec is named by its path, or by its name if it comes with the package; 'resnet-spec "
        "list' prints these. A path after 'extends' is relative to the file that it stands in. "
        "Specs may extend one another up to 16 times, but not in a circle.",
        f"{TOP}extends: resnet51\n",
        f"{TOP}extends: resnet50\n",
    ),
    "RS108": Code(
        "a change, a default or a rule that reaches nothing",
        "With 'extends' and --set, a list of stages or layers is changed by the names of its "
        "items: 'stages.layer4.repeat=2', or a mapping under 'stages'. The name must be one that "
        "is in the list; 'none' removes the item, a mapping changes some of its keys, and a list "
        "takes the place of the list. A default that a spec states itself must be one that some "
        "layer takes, and a rule of 'rename' must lead to weights of the network. What a spec has "
        "from the one that it extends may be for others.",
        f"{TOP}extends: resnet50\nstages:\n  layer5: {{repeat: 2}}\n",
        f"{TOP}extends: resnet50\nstages:\n  layer4: {{repeat: 2}}\n",
    ),
    "RS109": Code(
        "a recipe of training whose values do not go together",
        "Each value is right alone, but not beside the others: a milestone that lies behind the "
        "end of training, a schedule without what it needs, means without deviations. The length, "
        "the milestones and the warm-up all count what 'unit' says, epochs or steps. A recipe's "
        "values hold until the spec gives others.",
        f"{TOP}{STAGES}{HEAD}training: {{recipe: cifar_paper, length: 20000}}\n",
        f"{TOP}{STAGES}{HEAD}training: {{recipe: cifar_paper, length: 50000}}\n",
    ),
}

EXPRESSIONS = {
    "RS201": Code(
        "not an expression",
        "Values may be computed, but only with numbers, names, + - * / // % **, comparisons, and, "
        "or, not, 'a if b else c' and a few functions. It looks like Python but is never run as "
        "Python. Within {…} or […], put quotes around an expression that holds a comma.",
        layers("{conv: conv1, filters: sqrt(64), kernel: 7}"),
        layers('{conv: conv1, filters: "max(8, 64)", kernel: 7}'),
    ),
    "RS202": Code(
        "a name that is not defined",
        "An expression may use the arguments and 'let' values of its own block, in_channels, and "
        "the counters of the loops around it; what is given to a block may also use i, n, "
        "block_index and block_count. A 'let' value may use those above it. All branches are "
        "looked at, whether they are taken or not.",
        f"{TOP}let: {{width: 64}}\nstages:\n"
        f"  - {{name: layer1, block: basic, filters: widht}}\n{HEAD}",
        f"{TOP}let: {{width: 64}}\nstages:\n"
        f"  - {{name: layer1, block: basic, filters: width}}\n{HEAD}",
    ),
    "RS203": Code(
        "an expression without a value",
        "The expression divides by zero, takes a logarithm of something that has none, or goes "
        "beyond 2**53, up to where whole numbers are exact. Infinity and NaN are refused for the "
        "same reason. The message shows the numbers that it met.",
        layers("{conv: conv1, filters: 64 // 0, kernel: 7}"),
        layers("{conv: conv1, filters: 64 // 2, kernel: 7}"),
    ),
    "RS204": Code(
        "a number of the wrong kind",
        "Sizes and counts are whole numbers, switches are true or false. A division with / always "
        "gives a number with a fraction; // gives a whole one. How often a block or loop is "
        "repeated can't depend on the number of classes or input channels, since these are "
        "arguments of the generated code.",
        layers("{conv: conv1, filters: 64 / 2, kernel: 7}"),
        layers("{conv: conv1, filters: 64 // 2, kernel: 7}"),
    ),
    "RS205": Code(
        "a number out of range",
        "The number has the right kind, but nothing can be built with it: no filters, a kernel of "
        "size zero, a probability above one, a million repetitions. The message names the limit. "
        "Where the number is computed, the chain of uses leads to what it was computed from.",
        stage("{name: layer1, block: basic, repeat: 0, filters: 16}"),
        stage("{name: layer1, block: basic, repeat: 1, filters: 16}"),
    ),
}

BLOCKS = {
    "RS301": Code(
        "a block that can't be found",
        "A block is looked for under 'blocks' in the spec, then in the folder 'blocks' beside it "
        "(basic is blocks/basic.yaml), then among those that come with the package. Where a slot "
        "is filled, the name of a primitive will do as well.",
        stage("{name: layer1, block: basik, filters: 16}"),
        stage("{name: layer1, block: basic, filters: 16}"),
    ),
    "RS302": Code(
        "a block within itself",
        "A block that contains itself, straight or by way of others or of its slots, has no end. "
        "For the same reason blocks may be nested 24 deep at most. Say 'repeat' where you want a "
        "block several times in a row.",
        block("layers:\n  - {block: own, name: inner}"),
        block("layers:\n  - {block: transition, name: inner}"),
    ),
    "RS304": Code(
        "a slot that does not exist, or can't be filled like this",
        "A slot is a place in a block that the user of the block fills: with 'none', with the name "
        "of a block or primitive, or with {name: {argument: value}}. A block declares its slots "
        "under 'slots'; norm and act exist everywhere. Arguments that the block itself gives to "
        "what fills the slot can't be given again.",
        stage("{name: layer1, block: basic, filters: 16, attention: [relu, tanh]}"),
        stage("{name: layer1, block: basic, filters: 16, attention: squeeze_excitation}"),
    ),
    "RS305": Code(
        "a network that is too large",
        "Repetitions within repetitions grow quickly. A network may have 50,000 operations, and "
        "its blocks 20,000 lines to work through, equal blocks counted once; the deepest networks "
        "that were published stay far below. Lower a 'repeat' or a 'count'.",
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
        "input, or what an earlier layer names with 'as'. 'split' gives a list, whose elements "
        'are part.0 or "part.{i}"; elements are added to a list in order, from 0. A value must '
        "stand above its use, in the same block.",
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
        "another may also be 1x1 or have a single channel. Shapes are written channels x height x "
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
        "fills more than half of a pooling window. Usually the strides are too many for an input "
        "of this size. Use fewer strides, a smaller kernel, more padding, or a larger input.",
        f"{TOP}input: {{height: 32, width: 32}}\n"
        f"stem:\n  - {{conv: conv1, filters: 64, kernel: 33, padding: 0}}\n{STAGES}{HEAD}",
        f"{TOP}input: {{height: 32, width: 32}}\n"
        f"stem:\n  - {{conv: conv1, filters: 64, kernel: 7}}\n{STAGES}{HEAD}",
    ),
    "RS404": Code(
        "a map where a vector is needed, or the other way round",
        "Convolutions and poolings work on maps (channels x height x width), linear layers on "
        "vectors (channels). global_avg_pool turns a map into a vector; with keep_map: true it "
        "gives a 1x1 map.",
        f"{TOP}{STAGES}head:\n  - {{linear: fc, features: classes}}\n",
        f"{TOP}{STAGES}{HEAD}",
    ),
    "RS405": Code(
        "channels that can't be divided evenly",
        "'split', 'shuffle', 'group_norm' and grouped 'softmax' deal the channels out in equal "
        "parts. Choose a number that divides the channels, or change the layer that makes them.",
        layers("{conv: conv1, filters: 64, kernel: 7}", "{group_norm: norm1, groups: 24}"),
        layers("{conv: conv1, filters: 64, kernel: 7}", "{group_norm: norm1, groups: 16}"),
    ),
    "RS406": Code(
        "a number that was expected is another",
        "'expect' holds numbers that you know from elsewhere, such as the parameters that a paper "
        "reports; they are compared at every compile. Either the network is not the one that you "
        "meant, or the number counts something else. Parameters are those that are trained, "
        "running statistics are counted apart, and macs are multiply-adds for one image.",
        f"{TOP}extends: resnet18\nexpect: {{parameters: 11000000}}\n",
        f"{TOP}extends: resnet18\nexpect: {{parameters: 11689512}}\n",
    ),
}
