"""The codes of backends, files, settings, `verify`, `weights` and `import`."""

from resnet_spec.diagnostics.codes.code import Code, layers

BACKENDS = {
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
        layers(
            "{conv: conv1, filters: 64, kernel: 7}",
            "{avg_pool: pool, kernel: 3, stride: 2, ceil: true}",
        ),
        layers(
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
        layers("{conv: train, filters: 64, kernel: 7}"),
        layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS504": Code(
        "an internal error: code that would not be the network",
        "Before anything is written, the program that the code is made from is run with the "
        "network's own numbers and compared with it, operation by operation. They differ, so "
        "nothing was written. The mistake is resnet-spec's, not the spec's; please report it with "
        "the spec. The message names the routine and the statement.",
    ),
}

FILES = {
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

SETTINGS = {
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
    "RS706": Code(
        "settings that lead out of their folder",
        "Settings come with a project, perhaps a stranger's: the specs that they name and the "
        "folder that is written to stand below the folder of the settings, links followed. Where "
        "you know the project, --allow-outside lets them name others.",
    ),
}

VERIFYING = {
    "RS801": Code(
        "backends that compute differently",
        "'verify' ran what the backends write with the same numbers, and they differ by more than "
        "rounding. Named is the first operation whose output differs though its inputs agree; for "
        "statistics, gradients and first values, the operation that owns them. A backend writes it "
        "wrongly, or a framework computes it differently: compare how the two files write it.",
    ),
    "RS802": Code(
        "a network that a backend can't run",
        "'verify' asked a framework to build, run or train the network, and it failed, or its "
        "process ended. The message is the framework's own, or the last that the process printed. "
        "Try the generated file by itself, a smaller --size, and another --keras-backend.",
    ),
    "RS803": Code(
        "backends that agree, but not with what the operations are",
        "'verify' runs the spec without a framework, too: each operation by its definition, in "
        "numpy. Both backends compute the same, and it is something else. Named is the first "
        "operation whose output differs though its inputs agree, or whose shape is not what was "
        "inferred. Both backends go by one mistake, or the definition is wrong, which stands in "
        "resnet_spec/primitives/values: please report it.",
    ),
}

WEIGHTS = {
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

IMPORTING = {
    "RS951": Code(
        "a model that can't be read",
        "The file is not there, was cut off, or is no model with a graph: a file of weights alone "
        "has none. The message says what it is; 'weights' reads those. Export the model again.",
    ),
    "RS952": Code(
        "a model that is refused",
        "The file asks for more than its graph and its tensors: a tensor in a file outside of its "
        "own folder, code that would have to run, more nodes than any network has. Nothing of it "
        "was run. Put the tensors' file beside the model, or export it again.",
    ),
    "RS953": Code(
        "a model that the language can't say",
        "An operation of the model has no words in the language: the message names it with its "
        "place in the model, and nothing was guessed in its stead. Nothing was written. Networks "
        "with such operations can't be imported yet.",
    ),
    "RS954": Code(
        "an import that is not the model",
        "A spec was found, and the proof failed: it is another graph, or the compiled network "
        "gives other numbers. Nothing was written. The mistake is resnet-spec's; please report it "
        "with the model.",
    ),
}
