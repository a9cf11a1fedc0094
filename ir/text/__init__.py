"""The IR as text: it prints readably and parses back.

    model producer=1882 {
      graph @main(%x: float32[?, 2]) -> (%y) {
        %w = tf.Const() {dtype = float32, value = float32[2, 2] [[1.0, 2.0], [3.0, 4.0]]} : float32[2, 2]
        %y = tf.MatMul(%x, %w) {T = float32, transpose_b = true} after(%init) device("/cpu:0") : float32[?, 2]
        %init = tf.NoOp() : ()
      }
      signature "serving_default"(x = %x) -> (y = %y)
    }

Grammar (`//` starts a comment; `NAME` is a word, or a string in double quotes with `\\n`, `\\x1b`, `\\u202e` escapes):

    model      := "model" {("producer" | "min_consumer") "=" INT | "bad_consumers" "=" list} "{" {item} "}"  |  {item}
    item       := graph | function | signature
    graph      := "graph" header          function := "function" header
    header     := "@" NAME "(" parameters ")" "->" "(" results ")" {clause} "{" {node} "}"
    parameters := [NAME "="] "%" NAME [":" INT] [":" type] , ...     results := [NAME "="] value , ...
    clause     := "targets" "(" "%" NAME , ... ")"  |  "control_outputs" "(" NAME "=" "%" NAME , ... ")"
                | "attrs" attributes  |  "gradient" "(" "@" NAME ")"
    signature  := "signature" NAME ["of" "@" NAME] "(" NAME "=" place , ... ")" "->" "(" NAME "=" place , ... ")"
                  {"method" "(" STRING ")" | "inferred" | "defaults" attributes
                  | "reasons" "(" NAME "=" STRING , ... ")"}
    place      := value | "#" INT         the value's first position among the graph's inputs or outputs, or a position
    node       := "%" NAME "=" OPERATOR "(" [value | "none"] , ... ")" [attributes] {annotation} [":" types]
    annotation := "after" "(" "%" NAME , ... ")" | "device" "(" STRING ")" | "origins" "(" STRING , ... ")"
    value      := "%" NAME [":" INT]      output INT of the node, the first without one
    types      := type | "(" type , ... ")"
    type       := DTYPE shape ["quantized" "(" "scale" "=" list "," "zero_point" "=" list ["," "axis" "=" INT] ")"]
                  ["as" STRING]           a tensor's name of its own
    shape      := "[" "*" "]" | "[" dim , ... "]"      dim := "?" | sum of products of INT, NAME and
                  "floordiv" "(" dim "," dim ")" (also "max", "min")
    attributes := "{" NAME "=" attribute , ... "}"
    attribute  := INT | FLOAT | "true" | "false" | "none" | bytes | DTYPE | "shape" shape | tensor
                | "@" NAME [attributes] | "$" NAME | "[" attribute , ... "]"   bytes := b"..." (or a string: its UTF-8)
    tensor     := DTYPE shape (contents | "splat" element | "repeat" "[" element , ... "]" | "packed" contents)
    contents   := element, or elements in brackets nested as the shape is, or all in one pair of brackets
    element    := INT | FLOAT | "0x" HEX (the bits of a float) | "true" | "false" | bytes | "(" FLOAT "," FLOAT ")"

A node without `: types` is in the short form, in which what follows from its operands may be left out: attributes that
only repeat the types or the number of operands are filled in, a constant's dtype comes from its tensor, the result
types of a call from the function, and the outputs from the operator's interface. A parameter without a node of its own
is a `tf.Placeholder` (in a function a `tf._Arg`) of the type given there. Nodes may be used before they are defined.

`print_model` shortens big tensors, long strings and lists (`float32[64, 3] elided 768 bytes`), which does not parse;
`elide=None` prints everything. What a format keeps beside the IR (`metadata`, `extras`) is not part of the text.
"""

from graphopt.ir.text.parser import parse_graph, parse_model
from graphopt.ir.text.printer import print_graph, print_model, print_node

__all__ = ["parse_graph", "parse_model", "print_graph", "print_model", "print_node"]
