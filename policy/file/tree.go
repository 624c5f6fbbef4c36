package file

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

const emptyHint = "the least is service: with app: and allow:, or with calls:"

// tree is the one document in text as nodes, or nil where there is a problem.
//
// goccy/go-yaml would tell the column of an error of syntax, too. It reads
// [orders:read] as a map, and takes time quadratic in the number of keys.
func (r *reader) tree(text []byte) *yaml.Node {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	document, err := decode(decoder)
	switch {
	case errors.Is(err, io.EOF):
		r.refuseAt(1, 1, "the policy is empty", emptyHint)
		return nil
	case err != nil:
		r.syntax(text, err)
		return nil
	}
	second, err := decode(decoder)
	switch {
	case err == nil:
		r.refuse(second, "a second document begins here", "a policy is one document: remove the line ---")
		return nil
	case !errors.Is(err, io.EOF):
		r.syntax(text, err)
		return nil
	}
	root := document.Content[0]
	switch {
	case isNull(root) || root.Kind == yaml.MappingNode && len(root.Content) == 0:
		r.refuseAt(1, 1, "the policy is empty", emptyHint)
		return nil
	case root.Kind != yaml.MappingNode:
		r.refuse(root, "the policy is not a map of keys", emptyHint)
		return nil
	}
	return root
}

var errPanic = errors.New("this cannot be read as YAML")

// decode is the next document. A panic of the library is a problem of the file.
func decode(d *yaml.Decoder) (document *yaml.Node, err error) {
	defer func() {
		if recover() != nil {
			document, err = nil, errPanic
		}
	}()
	document = new(yaml.Node)
	if err := d.Decode(document); err != nil {
		return nil, err
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 {
		return nil, errPanic
	}
	return document, nil
}

// structure refuses what no policy may have, whatever the key: it marks the
// nodes that it refused, so that nothing more is said of them. It is false where
// the rest cannot be judged.
func (r *reader) structure(n *yaml.Node) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		return false // its anchor is refused
	case n.Anchor != "":
		r.refuse(n, "the anchor &"+short(n.Anchor)+" names a value to be used elsewhere", "remove it and write the value out where it is used")
	case n.Style&yaml.TaggedStyle != 0:
		r.refuse(n, "the tag "+short(n.Tag)+" changes how the value is read", "remove the tag")
		return false
	}
	switch {
	case n.Kind == yaml.MappingNode:
		return r.mapping(n)
	case n.Kind == yaml.SequenceNode && len(n.Content) == 0:
		r.refuse(n, "the list is empty", "list what is meant, or remove the key: empty never means any")
	case n.Kind == yaml.ScalarNode && !r.visible(n):
	case n.Kind == yaml.ScalarNode && isEmpty(n):
		r.refuse(n, "the text is empty", "say what is meant, or remove the key: empty never means any")
	}
	ok := true
	for _, item := range n.Content {
		if isNull(item) {
			r.refuse(item, "the entry of the list is empty", "write a value after the dash, or remove it")
			continue
		}
		ok = r.structure(item) && ok
	}
	return ok
}

func (r *reader) mapping(n *yaml.Node) bool {
	if len(n.Content) == 0 {
		r.refuse(n, "the map is empty", "say what is meant, or remove the key: empty never means any")
		return true
	}
	if inBraces(n) {
		r.refuse(n, "the braces make this a map", `quote a text with braces, as in "GET /orders/{id}"`)
		return true
	}
	ok, seen := true, map[string]int{}
	for i := 0; i < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch line, twice := seen[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			r.refuse(key, "the key is not a text", `quote a text with braces or brackets, as in "GET /orders/{id}"`)
			r.bad[n] = true // not a map whose keys could be looked up
			continue
		case !r.visible(key):
			continue
		case key.Tag == "!!merge":
			r.refuse(key, "the merge key << takes keys from elsewhere", "write them out")
			continue
		case key.Style&yaml.TaggedStyle != 0 || key.Anchor != "":
			r.refuse(key, "the key has a tag or an anchor", "remove it")
			continue
		case twice:
			r.refuse(key, fmt.Sprintf("the key %s is here twice", show(key.Value)), fmt.Sprintf("it is on line %d already", line))
			continue
		}
		seen[key.Value] = key.Line
		if isNull(value) {
			r.refuse(key, short(key.Value)+": has no value", "write one, or remove the key: empty never means any")
			r.bad[value] = true
			continue
		}
		ok = r.structure(value) && ok
	}
	return ok
}

// visible refuses a scalar that has a character which cannot be seen: double
// quotes can write any. In a block a line may end, and be indented.
func (r *reader) visible(n *yaml.Node) bool {
	block := n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0
	for _, c := range n.Value {
		if !unicode.IsPrint(c) && !(block && (c == '\n' || c == '\t')) {
			r.refuse(n, fmt.Sprintf("the text has the character %U, which cannot be seen", c), "remove it")
			return false
		}
	}
	return true
}

// inBraces reports whether n is what {id} or {id:uuid} comes to where a flow
// list or map is around it.
func inBraces(n *yaml.Node) bool {
	return n.Style&yaml.FlowStyle != 0 && len(n.Content) == 2 && isNull(n.Content[1])
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Tag == "!!null" && isPlain(n) && n.Anchor == ""
}

func isEmpty(n *yaml.Node) bool { return strings.TrimSpace(n.Value) == "" }

const notPlain = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle

func isPlain(n *yaml.Node) bool { return n.Style&notPlain == 0 }
