"""What the help of each verb shows of its use; `""` is that of the command."""

EXAMPLES = {
    "": """examples:
  resnet-spec list                                        built-in networks
  resnet-spec init my_net.yaml                            a starter spec
  resnet-spec check my_net.yaml                           validate it, infer every shape
  resnet-spec compile my_net.yaml                         write generated/torch and generated/keras
  resnet-spec show resnet50                               the network as a table
  resnet-spec draw resnet50 --out resnet50.svg            the network as a picture
""",
    "compile": """examples:
  resnet-spec compile resnet101 --backend torch           a built-in spec, for one framework
  resnet-spec compile my_net.yaml --set classes=10        with a change
  resnet-spec compile my_net.yaml --backend keras --stdout
  resnet-spec compile                                     everything in the settings
  resnet-spec compile --check --diff                      for CI: exit 1 if a file is out of date

Settings are in pyproject.toml or resnet-spec.toml, in this folder or above:
  [[tool.resnet-spec.compile]]
  specs = ["specs/*.yaml"]
  backends = ["torch", "keras"]
  out = "generated"
""",
    "check": """examples:
  resnet-spec check specs/                                every spec and block below a folder
  resnet-spec check my_net.yaml --backend keras           also what Keras can't express
  resnet-spec check my_net.yaml --format github
""",
    "show": """examples:
  resnet-spec show resnet50
  resnet-spec show my_net.yaml --set input.height=32 --set input.width=32
  resnet-spec show my_net.yaml --resolved                 the spec with 'extends' merged
""",
    "draw": """examples:
  resnet-spec draw resnet50 --out resnet50.svg            a page: sizes, blocks, symbols
  resnet-spec draw my_net.yaml --compact --out strip.svg  a strip for a README
  resnet-spec draw resnet50 --block bottleneck --out block.svg
  resnet-spec draw my_net.yaml --format mermaid --stdout
  resnet-spec draw my_net.yaml --out my_net.png           if a converter is installed
""",
    "diff": """examples:
  resnet-spec diff resnet50_v1 resnet50                   what changed, and what still loads
  resnet-spec diff my_net.yaml --against HEAD~1           with what git has of it
  resnet-spec diff resnet50 --set classes=10              with itself, changed
  resnet-spec diff --against main --fail-on load-in-part --format markdown

From the least to the gravest: same-function, checkpoints-load, load-in-part, break.
""",
    "sweep": """examples:
  resnet-spec sweep resnet50 --set 'stages.layer3.repeat=1..8' --sort macs
  resnet-spec sweep net.yaml --set 'stages.layer3.repeat=1..8' \\
      --set 'stages.layer4.filters=256,384,512' --where 'macs < 4e9' --plot pareto.svg
  resnet-spec sweep net.yaml --set 'input.height=128..512..32' --sort peak_activation
  resnet-spec sweep net.yaml --set classes=10,100 --sort parameters --limit 1 --write variants

A key is called by its path: stages.layer3.repeat is layer3_repeat in columns and conditions.
""",
    "report": """examples:
  resnet-spec report resnet50 --out resnet50.html         one page: picture, numbers, sources
  resnet-spec report my_net.yaml --backend torch          with this source alone
""",
    "preview": """examples:
  resnet-spec preview my_net.yaml                         the page of `report`, renewed at each save
  resnet-spec preview my_net.yaml --open --port 8000
""",
    "verify": """examples:
  resnet-spec verify my_net.yaml                          PyTorch against Keras on TensorFlow
  resnet-spec verify my_net.yaml --keras-backend jax --precision float32
  resnet-spec verify resnet18 resnet50 --format json

Exits with 1 if the backends differ, and names the first operation that does, with its place.
""",
    "list": """examples:
  resnet-spec list --family resnet --max-parameters 30M
  resnet-spec list 'wide_*' --format json
""",
    "weights": """examples:
  resnet-spec weights inspect resnet18.pth resnet18       does the file fit the spec?
  resnet-spec weights convert mine.pt mine.yaml --out mine.weights.h5
  resnet-spec weights import resnet50.pth resnet50 --from torchvision --out resnet50.keras
  resnet-spec weights convert resnet18.pth mine.yaml --reset-head --out mine.safetensors
  resnet-spec weights verify mine.safetensors mine.yaml --against trained.onnx
  resnet-spec weights match unknown.pth                   which network is it of?
""",
    "import": """examples:
  resnet-spec import resnet50.onnx --out mine.yaml --weights mine.safetensors
  resnet-spec import trained.keras --out mine.yaml --weights mine.pt
  resnet-spec import mine.models:build --out mine.yaml --input 3x32x32
  resnet-spec import model.onnx --out model.yaml --no-library     blocks of its own alone

Nothing is written before it is proven: the spec is the model's graph, and the compiled PyTorch
network with the model's weights gives its output.
""",
    "explain": "examples:\n  resnet-spec explain RS104\n  resnet-spec explain\n",
    "schema": """examples:
  resnet-spec schema network > network.json
  then, on a spec's first line: # yaml-language-server: $schema=network.json
""",
    "init": """examples:
  resnet-spec init my_net.yaml
  resnet-spec init my_net.yaml --from resnet50            change a built-in network
""",
}
