"""The codes of backends, files, settings, `verify`, `weights` and `import`."""

from resnet_spec.diagnostics.codes.code import Code, layers

BACKENDS = {
    "RS501": Code(
        "a backend that does not exist",
        "The built-in backends are torch, keras, flax and json; others can be installed and are "
        "found through their entry point in the group resnet_spec.backends. Check the name after "
        "--backend, or the backends in the settings.",
    ),
    "RS502": Code(
        "a network that can't be written the same in every framework",
        "The network is valid, but the frameworks would not agree on it, or no readable code "
        "expresses it: a layer with parameters whose output is never used, a head that reads "
        "values from before the last stage, a pooling that rounds its output size differently. "
        "The help says what to write instead.",
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
        "a layer name that a framework can't use",
        "In PyTorch, no part of a layer's dotted name may be an attribute of every "
        "torch.nn.Module, such as 'train' or 'parameters'; numbers and any depth are fine. In "
        "Keras, '.' becomes '_', so two names may become equal, and a layer must not have the "
        "name of a function that the file defines. A network's name is the name of its function, "
        "and must not be one that its file uses. Rename the layer.",
        layers("{conv: train, filters: 64, kernel: 7}"),
        layers("{conv: conv1, filters: 64, kernel: 7}"),
    ),
    "RS504": Code(
        "an internal error: generated code that would not match the network",
        "Before writing anything, resnet-spec runs the program behind the code with the network's "
        "own numbers and compares it with the network, operation by operation. They differ, so "
        "nothing was written. This is a bug in resnet-spec, not in the spec; please report it "
        "with the spec. The message names the routine and the statement.",
    ),
}

FILES = {
    "RS601": Code(
        "a file that can't be read or written",
        "The system refused to read or write below the output folder: no permission, no space, a "
        "path that is too long. Files written before are complete. Choose another folder with "
        "--out, or fix what the message names.",
    ),
    "RS602": Code(
        "a file that the compiler did not write",
        "An output file would replace a file that this compiler did not write, which could "
        "destroy work. Move it away, choose another folder with --out, or replace it with "
        "--force. 'init' never replaces a file.",
    ),
    "RS603": Code(
        "a generated file that was edited",
        "The file has our header, but its body is not what was generated: it was edited by hand, "
        "and compiling again would lose the change. Move the change into the spec or its blocks, "
        "then replace the file with --force.",
    ),
    "RS604": Code(
        "a path outside the output folder",
        "Generated files stay below the output folder, and a symbolic link inside it must not "
        "lead elsewhere. Remove the link, or give its target with --out.",
    ),
    "RS605": Code(
        "a folder where a file should be, or a file where a folder should be",
        "The output folder already has a file or folder with this name, but of the other kind. "
        "Remove it, or choose another folder with --out.",
    ),
    "RS606": Code(
        "a generated file that is out of date",
        "'compile --check' found that compiling would change the file: the spec, one of its blocks "
        "or the compiler has changed since. Run 'resnet-spec compile' and commit the result.",
    ),
    "RS607": Code(
        "a generated file that is missing",
        "'compile --check' found that compiling would create this file. Run 'resnet-spec compile' "
        "and commit the result.",
    ),
    "RS608": Code(
        "a generated file that no spec produces",
        "The file has our header, but no spec in the settings produces it: its spec was renamed "
        "or removed. Delete the file; the compiler itself deletes nothing.",
    ),
    "RS609": Code(
        "two specs for one file",
        "A generated file is named after its network, and two specs in this run have the same "
        "name, backend and output folder. Change the 'name' of one of them, or give it another "
        "output folder.",
    ),
}

SETTINGS = {
    "RS701": Code(
        "settings that can't be read",
        "The settings file is missing, not UTF-8, larger than a megabyte, or not valid TOML. "
        "Settings are in resnet-spec.toml, or in the table [tool.resnet-spec] of pyproject.toml, "
        "in the working folder or one above it; --isolated ignores them.",
    ),
    "RS702": Code(
        "an unknown key in the settings",
        "The only key is 'compile', a list of tables, each with 'specs', 'backends', 'out' and "
        "'trainer'. In pyproject.toml a table begins with [[tool.resnet-spec.compile]], in "
        "resnet-spec.toml with [[compile]].",
    ),
    "RS703": Code(
        "a wrong value in the settings",
        "'specs' and 'backends' are lists of texts, 'out' is a folder, and all paths are "
        'relative to the settings file. For example: specs = ["specs/*.yaml"].',
    ),
    "RS704": Code(
        "two files with settings",
        "resnet-spec.toml and the pyproject.toml next to it both have settings, and neither takes "
        "precedence. Keep one of them.",
    ),
    "RS705": Code(
        "a pattern that matches no spec",
        "A pattern under 'specs' is relative to the folder of the settings; '*' matches part of a "
        "name, '**' any number of folders. Files in a folder 'blocks' are not specs.",
    ),
    "RS706": Code(
        "settings that lead out of their folder",
        "Settings come with a project, which may be a stranger's. So their specs and output "
        "folder must be below the folder of the settings; this holds for the target of a symbolic "
        "link, too. If you trust the project, --allow-outside allows others.",
    ),
}

VERIFYING = {
    "RS801": Code(
        "backends that compute differently",
        "'verify' ran the generated files with the same numbers, and they differ by more than "
        "rounding. The message names the first operation whose output differs although its inputs "
        "agree; for statistics, gradients and initial values, the operation that owns them. "
        "Either a backend writes it wrongly, or a framework computes it differently: compare it "
        "in the two files.",
    ),
    "RS802": Code(
        "a network that a backend can't run",
        "'verify' asked a framework to build, run or train the network, and it failed, or its "
        "process ended. The message comes from the framework, or is the last output of the "
        "process. Try the generated file by itself, a smaller --size, or another --keras-backend.",
    ),
    "RS803": Code(
        "backends that agree, but not with the definitions of the operations",
        "'verify' also runs the spec without a framework: each operation by its definition, in "
        "numpy. Both backends compute the same, but the definition gives something else. The "
        "message names the first operation whose output differs although its inputs agree, or "
        "whose shape is not the inferred one. Either both backends have the same bug, or the "
        "definition in resnet_spec/primitives/numpy_values.py is wrong: please report it.",
    ),
}

WEIGHTS = {
    "RS901": Code(
        "a file of weights that can't be read",
        "The file is not there, is empty, was cut off, or is none of safetensors, PyTorch's .pt "
        "and .pth, TorchScript, Keras' .weights.h5, .h5 and .keras, ONNX, NumPy's .npz, "
        "TensorFlow's checkpoints, and an index of parts. The format follows from the content, so "
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
    "RS907": Code(
        "a state that the file does not hold",
        "Training keeps more than one state of a network: the raw weights and their average. Where "
        "a file has several, the average is taken, because it is what was evaluated; --state names "
        "another one. The message lists them.",
    ),
    "RS908": Code(
        "weights that mean something else in this network",
        "The names and shapes fit, or nearly, and the values would be read wrongly: a map that was "
        "flattened in another order, norms that are folded into convolutions, biases before norms, "
        "names that the spec and the model that it was imported from have for other layers. "
        "Nothing is guessed: the flag that the help names says what the file has, and the weights "
        "are turned exactly.",
    ),
    "RS909": Code(
        "a file that states something else than the spec",
        "Beside its weights the file says what its layers do, and the spec says otherwise: another "
        "epsilon, stride, padding or activation. The weights fit and the network would compute "
        "something else. Change the spec; where the file is wrong, --trust-spec takes the weights "
        "all the same.",
    ),
    "RS910": Code(
        "a network that computes something else than its source",
        "'weights verify', or 'weights convert' by itself, ran the source of the weights and the "
        "network of the spec on the same images, and they differ by more than --tolerance. Named "
        "is the first stage whose values the source has nowhere: look there for another stride, "
        "padding, epsilon or activation.",
    ),
    "RS911": Code(
        "a source of weights that can't be run",
        "'weights verify' runs the source of the weights in a process of its own, and its runtime "
        "failed, or it takes images of another size than the spec. The message is the runtime's "
        "own. An .npz with the arrays 'input' and 'output' serves where the source can't be run.",
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
