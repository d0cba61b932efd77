"""Every code that a diagnostic can have, with what it means and how to mend it.

The tests compile each example: a bad one gives its code and no other, a good one gives none.
"""

from typing import NamedTuple


class Code(NamedTuple):
    """What a code means, with a bad and a good example; empty where no spec can show it."""

    title: str
    explanation: str
    bad: str = ""
    good: str = ""


_TOP = """\
spec_version: 1
name: example
description: An example
"""
_STAGES = """\
stages:
  - {name: layer1, block: basic, filters: 16}
"""
_HEAD = """\
head:
  - {global_avg_pool: avgpool}
  - {linear: fc, features: classes}
"""


def _layers(*lines: str) -> str:
    """A network whose stem has these layers."""
    stem = "".join(f"  - {line}\n" for line in lines)
    return f"{_TOP}stem:\n{stem}{_STAGES}{_HEAD}"


def _stage(line: str) -> str:
    """A network with this stage."""
    return f"{_TOP}stages:\n  - {line}\n{_HEAD}"


def _block(lines: str, stage: str = "{name: layer1, block: own}") -> str:
    """A network with a block of its own; `lines` follow the block's description."""
    body = "".join(f"    {line}\n" for line in lines.strip("\n").split("\n"))
    block = f"blocks:\n  own:\n    description: A block of this network's own\n{body}"
    return f"{_TOP}{block}stages:\n  - {stage}\n{_HEAD}"


_READING = {
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
        _TOP.replace("An example", "An example: the first") + _STAGES + _HEAD,
        _TOP.replace("An example", '"An example: the first"') + _STAGES + _HEAD,
    ),
    "RS003": Code(
        "a key stands twice",
        "Most YAML readers take the last of two equal keys and say nothing, so a value that you "
        "wrote would be lost. Each key of a mapping may stand once. Remove one of them.",
        f"{_TOP}classes: 10\nclasses: 100\n{_STAGES}{_HEAD}",
        f"{_TOP}classes: 100\n{_STAGES}{_HEAD}",
    ),
    "RS004": Code(
        "a feature of YAML that specs don't use",
        "Tags, merge keys, several documents in one file, lists as keys, more than 64 levels and "
        "more than 50,000 values are refused. They make a spec hard to read or dangerous to load, "
        "and a network needs none of them. Anchors and aliases are fine within these limits.",
        f"{_TOP}classes: !!int 10\n{_STAGES}{_HEAD}",
        f"{_TOP}classes: 10\n{_STAGES}{_HEAD}",
    ),
    "RS005": Code(
        "an empty file",
        "There is nothing in the file but blanks and comments. A spec begins with its version, a "
        "name and a description. 'resnet-spec init' writes one to start from.",
        "# a network will stand here\n",
        f"{_TOP}{_STAGES}{_HEAD}",
    ),
}

_WRITING = {
    "RS101": Code(
        "an unknown key",
        "A key that is misspelled would otherwise do nothing, and the network would not be the one "
        "that you meant. Every key of a spec, a block, a layer and a stage must be known; a stage "
        "also takes the arguments and slots of its block. The help names the nearest key, or all.",
        _layers("{conv: conv1, filters: 64, kernal: 7}"),
        _layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS102": Code(
        "a key is missing",
        "The key has no default, because no value would be right for most networks. The message "
        "says where it is missing, the help what it means. An argument of a block without a "
        "default must be given wherever the block is used, and a layer with parameters needs a "
        "name.",
        _layers("{conv: conv1, kernel: 7}"),
        _layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS103": Code(
        "a value of the wrong type",
        "The value stands at the right place but is not what the key takes: a text instead of a "
        "number, a list instead of a mapping, a number out of its range. Types are those of YAML "
        "1.2: 'yes' and 'no' are text, 1e-5 is a number, and quotes make a text of anything.",
        f"{_TOP}classes: ten\n{_STAGES}{_HEAD}",
        f"{_TOP}classes: 10\n{_STAGES}{_HEAD}",
    ),
    "RS104": Code(
        "channels are not divisible by the groups of a convolution",
        "A grouped convolution deals its input channels and its filters out evenly, so both must "
        "be multiples of 'groups'. Change the filters, the groups, or the layer before.",
        _layers(
            "{conv: conv1, filters: 64, kernel: 7}",
            "{conv: conv2, filters: 1000, kernel: 3, groups: 32}",
        ),
        _layers(
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
        _TOP.replace("name: example", "name: my-net") + _STAGES + _HEAD,
        _TOP.replace("name: example", "name: my_net") + _STAGES + _HEAD,
    ),
    "RS106": Code(
        "a name is taken",
        "Two layers, stages, arguments or slots share a name, so one of them could not be told "
        "from the other, and saved weights would be lost; or a layer would be within another, as "
        "'conv.bn' in 'conv'. Give one of them another name. In a loop, put the counter into the "
        'name, as in "conv.{k}". What has no name is called as what it is, the second of a body '
        "with a 2 behind, and in loops with the counters: 'act', 'act2', 'max_pool3.0'.",
        _layers("{conv: conv1, filters: 64, kernel: 7}", "{conv: conv1, filters: 64, kernel: 3}"),
        _layers("{conv: conv1, filters: 64, kernel: 7}", "{conv: conv2, filters: 64, kernel: 3}"),
    ),
    "RS107": Code(
        "a spec that can't be found, or extends itself",
        "A spec is named by its path, or by its name if it comes with the package; 'resnet-spec "
        "list' prints these. A path after 'extends' is relative to the file that it stands in. "
        "Specs may extend one another up to 16 times, but not in a circle.",
        f"{_TOP}extends: resnet51\n",
        f"{_TOP}extends: resnet50\n",
    ),
    "RS108": Code(
        "a change, a default or a rule that reaches nothing",
        "With 'extends' and --set, a list of stages or layers is changed by the names of its "
        "items: 'stages.layer4.repeat=2', or a mapping under 'stages'. The name must be one that "
        "is in the list; 'none' removes the item, a mapping changes some of its keys, and a list "
        "takes the place of the list. A default that a spec states itself must be one that some "
        "layer takes, and a rule of 'rename' must lead to weights of the network. What a spec has "
        "from the one that it extends may be for others.",
        f"{_TOP}extends: resnet50\nstages:\n  layer5: {{repeat: 2}}\n",
        f"{_TOP}extends: resnet50\nstages:\n  layer4: {{repeat: 2}}\n",
    ),
    "RS109": Code(
        "a recipe of training whose values do not go together",
        "Each value is right alone, but not beside the others: a milestone that lies behind the "
        "end of training, a schedule without what it needs, means without deviations. The length, "
        "the milestones and the warm-up all count what 'unit' says, epochs or steps. A recipe's "
        "values hold until the spec gives others.",
        f"{_TOP}{_STAGES}{_HEAD}training: {{recipe: cifar_paper, length: 20000}}\n",
        f"{_TOP}{_STAGES}{_HEAD}training: {{recipe: cifar_paper, length: 50000}}\n",
    ),
}

_EXPRESSIONS = {
    "RS201": Code(
        "not an expression",
        "Values may be computed, but only with numbers, names, + - * / // % **, comparisons, and, "
        "or, not, 'a if b else c' and a few functions. It looks like Python but is never run as "
        "Python. Within {…} or […], put quotes around an expression that holds a comma.",
        _layers("{conv: conv1, filters: sqrt(64), kernel: 7}"),
        _layers('{conv: conv1, filters: "max(8, 64)", kernel: 7}'),
    ),
    "RS202": Code(
        "a name that is not defined",
        "An expression may use the arguments and 'let' values of its own block, in_channels, and "
        "the counters of the loops around it; what is given to a block may also use i, n, "
        "block_index and block_count. A 'let' value may use those above it. All branches are "
        "looked at, whether they are taken or not.",
        f"{_TOP}let: {{width: 64}}\nstages:\n"
        f"  - {{name: layer1, block: basic, filters: widht}}\n{_HEAD}",
        f"{_TOP}let: {{width: 64}}\nstages:\n"
        f"  - {{name: layer1, block: basic, filters: width}}\n{_HEAD}",
    ),
    "RS203": Code(
        "an expression without a value",
        "The expression divides by zero, takes a logarithm of something that has none, or goes "
        "beyond 2**53, up to where whole numbers are exact. Infinity and NaN are refused for the "
        "same reason. The message shows the numbers that it met.",
        _layers("{conv: conv1, filters: 64 // 0, kernel: 7}"),
        _layers("{conv: conv1, filters: 64 // 2, kernel: 7}"),
    ),
    "RS204": Code(
        "a number of the wrong kind",
        "Sizes and counts are whole numbers, switches are true or false. A division with / always "
        "gives a number with a fraction; // gives a whole one. How often a block or loop is "
        "repeated can't depend on the number of classes or input channels, since these are "
        "arguments of the generated code.",
        _layers("{conv: conv1, filters: 64 / 2, kernel: 7}"),
        _layers("{conv: conv1, filters: 64 // 2, kernel: 7}"),
    ),
    "RS205": Code(
        "a number out of range",
        "The number has the right kind, but nothing can be built with it: no filters, a kernel of "
        "size zero, a probability above one, a million repetitions. The message names the limit. "
        "Where the number is computed, the chain of uses leads to what it was computed from.",
        _stage("{name: layer1, block: basic, repeat: 0, filters: 16}"),
        _stage("{name: layer1, block: basic, repeat: 1, filters: 16}"),
    ),
}

_BLOCKS = {
    "RS301": Code(
        "a block that can't be found",
        "A block is looked for under 'blocks' in the spec, then in the folder 'blocks' beside it "
        "(basic is blocks/basic.yaml), then among those that come with the package. Where a slot "
        "is filled, the name of a primitive will do as well.",
        _stage("{name: layer1, block: basik, filters: 16}"),
        _stage("{name: layer1, block: basic, filters: 16}"),
    ),
    "RS302": Code(
        "a block within itself",
        "A block that contains itself, straight or by way of others or of its slots, has no end. "
        "For the same reason blocks may be nested 24 deep at most. Say 'repeat' where you want a "
        "block several times in a row.",
        _block("layers:\n  - {block: own, name: inner}"),
        _block("layers:\n  - {block: transition, name: inner}"),
    ),
    "RS304": Code(
        "a slot that does not exist, or can't be filled like this",
        "A slot is a place in a block that the user of the block fills: with 'none', with the name "
        "of a block or primitive, or with {name: {argument: value}}. A block declares its slots "
        "under 'slots'; norm and act exist everywhere. Arguments that the block itself gives to "
        "what fills the slot can't be given again.",
        _stage("{name: layer1, block: basic, filters: 16, attention: [relu, tanh]}"),
        _stage("{name: layer1, block: basic, filters: 16, attention: squeeze_excitation}"),
    ),
    "RS305": Code(
        "a network that is too large",
        "Repetitions within repetitions grow quickly. A network may have 50,000 operations, and "
        "its blocks 20,000 lines to work through, equal blocks counted once; the deepest networks "
        "that were published stay far below. Lower a 'repeat' or a 'count'.",
        _block(
            "layers:\n  - for: a\n    count: 2000\n    layers:\n"
            '      - {for: b, count: 2000, layers: [{act: "act.{a}.{b}"}]}'
        ),
        _block(
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
        _block(
            "layers:\n  - {conv: conv1, filters: in_channels, kernel: 3, as: residual}\n"
            "  - {add: [residul, x]}"
        ),
        _block(
            "layers:\n  - {conv: conv1, filters: in_channels, kernel: 3, as: residual}\n"
            "  - {add: [residual, x]}"
        ),
    ),
}

_SHAPES = {
    "RS401": Code(
        "shapes that can't be added or multiplied",
        "Values that are added must have the same channels, height and width. A value that scales "
        "another may also be 1x1 or have a single channel. Shapes are written channels x height x "
        "width. Usually the shortcut needs the stride or the filters of the residual.",
        _block(
            "layers:\n  - {conv: conv1, filters: 64, kernel: 3, stride: 2, as: residual}\n"
            "  - {add: [residual, x]}"
        ),
        _block(
            "layers:\n  - {conv: conv1, filters: 64, kernel: 3, stride: 2, as: residual}\n"
            "  - {conv: shortcut, from: x, filters: 64, kernel: 1, stride: 2, as: shortcut}\n"
            "  - {add: [residual, shortcut]}"
        ),
    ),
    "RS402": Code(
        "shapes that can't be concatenated",
        "Values are concatenated along their channels, so their heights and widths must be equal. "
        "Give all branches the same stride and padding.",
        _block(
            "layers:\n  - {conv: conv1, filters: 64, kernel: 3, stride: 2, as: new}\n"
            "  - {concat: [x, new]}"
        ),
        _block(
            "layers:\n  - {conv: conv1, filters: 64, kernel: 3, as: new}\n  - {concat: [x, new]}"
        ),
    ),
    "RS403": Code(
        "nothing is left of a feature map",
        "The window of a convolution or pooling does not fit into its padded input, or padding "
        "fills more than half of a pooling window. Usually the strides are too many for an input "
        "of this size. Use fewer strides, a smaller kernel, more padding, or a larger input.",
        f"{_TOP}input: {{height: 32, width: 32}}\n"
        f"stem:\n  - {{conv: conv1, filters: 64, kernel: 33, padding: 0}}\n{_STAGES}{_HEAD}",
        f"{_TOP}input: {{height: 32, width: 32}}\n"
        f"stem:\n  - {{conv: conv1, filters: 64, kernel: 7}}\n{_STAGES}{_HEAD}",
    ),
    "RS404": Code(
        "a map where a vector is needed, or the other way round",
        "Convolutions and poolings work on maps (channels x height x width), linear layers on "
        "vectors (channels). global_avg_pool turns a map into a vector; with keep_map: true it "
        "gives a 1x1 map.",
        f"{_TOP}{_STAGES}head:\n  - {{linear: fc, features: classes}}\n",
        f"{_TOP}{_STAGES}{_HEAD}",
    ),
    "RS405": Code(
        "channels that can't be divided evenly",
        "'split', 'shuffle', 'group_norm' and grouped 'softmax' deal the channels out in equal "
        "parts. Choose a number that divides the channels, or change the layer that makes them.",
        _layers("{conv: conv1, filters: 64, kernel: 7}", "{group_norm: norm1, groups: 24}"),
        _layers("{conv: conv1, filters: 64, kernel: 7}", "{group_norm: norm1, groups: 16}"),
    ),
    "RS406": Code(
        "a number that was expected is another",
        "'expect' holds numbers that you know from elsewhere, such as the parameters that a paper "
        "reports; they are compared at every compile. Either the network is not the one that you "
        "meant, or the number counts something else. Parameters are those that are trained, "
        "running statistics are counted apart, and macs are multiply-adds for one image.",
        f"{_TOP}extends: resnet18\nexpect: {{parameters: 11000000}}\n",
        f"{_TOP}extends: resnet18\nexpect: {{parameters: 11689512}}\n",
    ),
}

_BACKENDS = {
    "RS501": Code(
        "a backend that does not exist",
        "The backends that come with the package are torch, keras and json; others can be "
        "installed and are found by their entry point in the group resnet_spec.backends. Check "
        "the name after --backend, or the backends in the settings.",
    ),
    "RS502": Code(
        "a network that can't be written the same for every framework",
        "The network is sound, but the frameworks would not agree on it, or no readable code "
        "stands for it: a layer with parameters whose output is never used, a head that reads "
        "values from before the last stage, a pooling whose rounding differs. The help says what "
        "to write instead.",
        _layers(
            "{conv: conv1, filters: 64, kernel: 7}",
            "{avg_pool: pool, kernel: 3, stride: 2, ceil: true}",
        ),
        _layers(
            "{conv: conv1, filters: 64, kernel: 7}",
            "{avg_pool: pool, kernel: 2, stride: 2, ceil: true}",
        ),
    ),
    "RS503": Code(
        "a layer's name that a framework can't take",
        "In PyTorch no part of a layer's dotted name may be an attribute of every torch.nn.Module, "
        "such as 'train' or 'parameters'; numbers and any depth are fine. In Keras '.' becomes "
        "'_', two layers must not end up with one name, and none may have a name that Keras gives "
        "to a function itself. A network's name is that of its function, and must be none that its "
        "file uses. Call the layer something else.",
        _layers("{conv: train, filters: 64, kernel: 7}"),
        _layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS504": Code(
        "an internal error: code that would not be the network",
        "Before anything is written, the program that the code is made from is run with the "
        "network's own numbers and compared with it, operation by operation. They differ, so "
        "nothing was written. The mistake is resnet-spec's, not the spec's; please report it with "
        "the spec. The message names the routine and the statement.",
    ),
}

_FILES = {
    "RS601": Code(
        "a file that can't be read or written",
        "The system refused to read or write below the output folder: no permission, no space, a "
        "path that is too long. Files that had been written before stay whole. Choose another "
        "folder with --out, or mend what the message names.",
    ),
    "RS602": Code(
        "a file that is not ours",
        "Where the output should go there is a file that this compiler did not write; replacing it "
        "could destroy work. Move it away, choose another folder with --out, or replace it with "
        "--force. 'init' never replaces a file.",
    ),
    "RS603": Code(
        "a generated file that was edited",
        "The file carries our header, but its body is not what was written: somebody changed it by "
        "hand, and compiling again would lose the change. Bring the change into the spec or its "
        "blocks, then replace the file with --force.",
    ),
    "RS604": Code(
        "a path outside the output folder",
        "Generated files stay below the output folder, and a symbolic link within it may not lead "
        "elsewhere. Remove the link, or name its target with --out.",
    ),
    "RS605": Code(
        "a folder where a file should be, or a file where a folder should be",
        "Something that stands in the output folder has the name that is needed for something "
        "else. Remove it, or choose another folder with --out.",
    ),
    "RS606": Code(
        "a generated file that is out of date",
        "'compile --check' found that compiling would change the file: the spec, one of its blocks "
        "or the compiler has changed since. Run 'resnet-spec compile' and commit the result.",
    ),
    "RS607": Code(
        "a generated file that is missing",
        "'compile --check' found that compiling would make a file that is not there. Run "
        "'resnet-spec compile' and commit the result.",
    ),
    "RS608": Code(
        "a generated file that no spec makes",
        "The file carries our header, but none of the specs that the settings name makes it: its "
        "spec was renamed or removed. Delete the file; the compiler deletes nothing itself.",
    ),
    "RS609": Code(
        "two specs for one file",
        "The file is called like the network, and two specs in one run have the same name for the "
        "same backend and output folder. Change the 'name' of one of them, or give it an output "
        "folder of its own.",
    ),
}

_SETTINGS = {
    "RS701": Code(
        "settings that can't be read",
        "The settings are missing, not UTF-8, larger than a megabyte, or not valid TOML. They "
        "stand in resnet-spec.toml, or in the table [tool.resnet-spec] of pyproject.toml, in the "
        "working folder or one above it; --isolated looks for none.",
    ),
    "RS702": Code(
        "an unknown key in the settings",
        "The settings have one key, the list of tables 'compile'; each table has 'specs', "
        "'backends' and 'out'. In pyproject.toml a table opens with [[tool.resnet-spec.compile]], "
        "in resnet-spec.toml with [[compile]].",
    ),
    "RS703": Code(
        "a wrong value in the settings",
        "'specs' and 'backends' are lists of texts, 'out' is a folder, and all paths are relative "
        'to the file of the settings. For example: specs = ["specs/*.yaml"].',
    ),
    "RS704": Code(
        "two files with settings",
        "Both resnet-spec.toml and the pyproject.toml beside it hold settings, and neither wins "
        "over the other. Keep one of them.",
    ),
    "RS705": Code(
        "a pattern that matches no spec",
        "A pattern under 'specs' is relative to the folder of the settings; '*' stands for part of "
        "a name, '**' for any number of folders. Files in a folder 'blocks' are no specs.",
    ),
}

_VERIFYING = {
    "RS801": Code(
        "backends that compute differently",
        "'verify' ran what the backends write with the same numbers, and they differ by more than "
        "rounding. Named is the first operation whose output differs though its inputs agree; for "
        "statistics, gradients and first values, the operation that owns them. A backend writes it "
        "wrongly, or a framework computes it otherwise: compare how the two files write it.",
    ),
    "RS802": Code(
        "a network that a backend can't run",
        "'verify' asked a framework to build, run or train the network, and it failed. The message "
        "is the framework's own. Try the generated file by itself, and another --keras-backend.",
    ),
    "RS803": Code(
        "backends that agree, but not with what the operations are",
        "'verify' runs the spec without a framework, too: each operation by its definition, in "
        "numpy. Both backends compute the same, and it is something else. Named is the first "
        "operation whose output differs though its inputs agree, or whose shape is not what was "
        "inferred. Both backends go by one mistake, or the definition is wrong, which stands in "
        "resnet_spec/ops/values: please report it.",
    ),
}

_WEIGHTS = {
    "RS901": Code(
        "a file of weights that can't be read",
        "The file is not there, is empty, was cut off, or is none of safetensors, PyTorch's .pt "
        "and .pth, and Keras' .weights.h5, .h5 and .keras. The format follows from the content, so "
        "a wrong ending does no harm. Write or copy the file again.",
    ),
    "RS902": Code(
        "a file of weights that is refused",
        "The file asks for more than its tensors: a pickle that would run code, a link to another "
        "file, or a small archive that would fill the memory. Nothing of it was run. Have it "
        "written again by someone you trust, with the tensors alone: "
        "torch.save(model.state_dict(), path), or as safetensors.",
    ),
    "RS903": Code(
        "tensors that the file lacks",
        "Every parameter and statistic of the spec must be in the file under its name; the report "
        "lists those that are not, with the nearest name. A published checkpoint is read by "
        "'weights import', which knows the names of the spec's references; --rename gives others. "
        "--partial draws what is missing as the spec states.",
    ),
    "RS904": Code(
        "tensors that the spec does not have",
        "The file holds tensors whose names are none of the spec's; the report lists them. It is "
        "probably of another network, or has other names: see RS903. --partial drops them.",
    ),
    "RS905": Code(
        "tensors of another shape or type",
        "The name is right and the shape is not, or the values are no floating-point numbers. For "
        "another number of classes begin the head anew with --reset-head, for another number of "
        "input channels use --adapt-input; --partial draws them as the spec states.",
    ),
    "RS906": Code(
        "weights that can't be adapted or converted so",
        "An adaptation was asked for that the network has no place for, nothing in the file fits, "
        "a --rename changes no name in it, or values do not fit the type that is to be written. "
        "The message names it.",
    ),
}

CODES: dict[str, Code] = {
    **_READING,
    **_WRITING,
    **_EXPRESSIONS,
    **_BLOCKS,
    **_SHAPES,
    **_BACKENDS,
    **_FILES,
    **_SETTINGS,
    **_VERIFYING,
    **_WEIGHTS,
}
