package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/klips-go/ipsec/klips/alg"
)

// jsonSource is the package that prints JSON, seen from the folder of the pages.
const jsonSource = "../commands/internal/output"

// An object is a JSON object, made from a struct of the package.
type object struct {
	name   string // of the struct
	doc    string
	fields []field
}

// A field is a field of an object.
type field struct {
	name     string
	typ      string // in the words of the page
	optional bool
	doc      string
}

// A jsonReader holds the structs of a package.
type jsonReader struct {
	structs map[string]*ast.StructType
	docs    map[string]string
	lists   []string // those of lists.go
}

// readObjects reads the structs of the package in a folder, each with the fields of the
// structs that it embeds. The lists come first. Each of the others comes before the
// structs that its own fields name. A struct that no field names is left out.
func readObjects(dir string) ([]object, error) {
	r := &jsonReader{structs: map[string]*ast.StructType{}, docs: map[string]string{}}
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		if err := r.file(name); err != nil {
			return nil, err
		}
	}
	objects, err := r.objects()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir, err)
	}
	return objects, nil
}

// file reads the structs of one file.
func (r *jsonReader) file(name string) error {
	f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.TYPE {
			continue
		}
		for _, s := range g.Specs {
			t := s.(*ast.TypeSpec)
			st, ok := t.Type.(*ast.StructType)
			if !ok {
				continue
			}
			r.structs[t.Name.Name], r.docs[t.Name.Name] = st, docText(g.Doc)
			if filepath.Base(name) == "lists.go" {
				r.lists = append(r.lists, t.Name.Name)
			}
		}
	}
	return nil
}

// objects returns the descriptions of the structs.
func (r *jsonReader) objects() (objects []object, err error) {
	order := slices.Clone(r.lists)
	for i := 0; i < len(order); i++ {
		o := object{name: order[i], doc: r.docs[order[i]]}
		if o.doc == "" {
			return nil, fmt.Errorf("type %s has no comment", o.name)
		}
		if o.fields, err = r.fields(r.structs[o.name]); err != nil {
			return nil, fmt.Errorf("type %s: %w", o.name, err)
		}
		next := i + 1
		if i < len(r.lists) {
			next = len(order) // after all lists
		}
		for _, f := range o.fields {
			of := f.typ[strings.LastIndex(f.typ, " ")+1:]
			if r.structs[of] != nil && !slices.Contains(order, of) {
				order = slices.Insert(order, next, of)
				next++
			}
		}
		objects = append(objects, o)
	}
	return objects, nil
}

// fields returns the fields of a struct. The fields of an embedded struct are included,
// except those of Head, which the page describes once.
func (r *jsonReader) fields(st *ast.StructType) (list []field, err error) {
	for _, f := range st.Fields.List {
		if len(f.Names) == 0 {
			name, _ := f.Type.(*ast.Ident)
			if name == nil || r.structs[name.Name] == nil {
				return nil, fmt.Errorf("it embeds what is no struct of the package")
			}
			if name.Name == head {
				continue
			}
			inner, err := r.fields(r.structs[name.Name])
			if err != nil {
				return nil, err
			}
			list = append(list, inner...)
			continue
		}
		goName := f.Names[0].Name
		if f.Tag == nil {
			return nil, fmt.Errorf("field %s has no tag", goName)
		}
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			return nil, err
		}
		name, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		if name == "" || name == "-" {
			return nil, fmt.Errorf("field %s has no name in JSON", goName)
		}
		typ, err := r.typeWords(f.Type)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", goName, err)
		}
		doc := docText(f.Doc)
		if doc == "" {
			return nil, fmt.Errorf("field %s has no comment before it", goName)
		}
		if words := reflect.StructTag(tag).Get("words"); words != "" {
			list, ok := algorithmWords()[words]
			if !ok {
				return nil, fmt.Errorf("field %s: there are no words of %s", goName, words)
			}
			doc += " It is " + strings.Join(list, ", ") + ", or the number that PF_KEY has for another one."
		}
		list = append(list, field{name, typ, options == "omitempty" || options == "omitzero", doc})
	}
	return list, nil
}

// head is the struct at the beginning of all lists.
const head = "Head"

// typeWords returns the JSON type of a Go type, in words.
func (r *jsonReader) typeWords(e ast.Expr) (string, error) {
	switch t := e.(type) {
	case *ast.StarExpr:
		return r.typeWords(t.X)
	case *ast.ArrayType:
		return r.ofMany("array of ", t.Elt)
	case *ast.MapType:
		return r.ofMany("object of ", t.Value)
	case *ast.SelectorExpr:
		// These types have methods that return text.
		switch pkg, _ := t.X.(*ast.Ident); pkg.Name + "." + t.Sel.Name {
		case "netip.Addr", "netip.Prefix", "time.Time":
			return "string", nil
		}
	case *ast.Ident:
		switch t.Name {
		case "string":
			return "string", nil
		case "bool":
			return "boolean", nil
		case "int", "int32", "int64", "uint8", "uint16", "uint32", "uint64":
			return "number", nil
		}
		if r.structs[t.Name] != nil {
			return t.Name, nil
		}
	}
	return "", fmt.Errorf("the page has no words for its type; see typeWords in manpages/gen")
}

// algorithmWords are the words of algorithms in the JSON.
func algorithmWords() map[string][]string {
	words := map[string][]string{}
	for _, e := range alg.Encs() {
		words["ciphers"] = append(words["ciphers"], e.String())
	}
	for _, a := range alg.Auths() {
		words["authentications"] = append(words["authentications"], a.String())
	}
	for _, c := range alg.Comps() {
		words["compressions"] = append(words["compressions"], c.String())
	}
	return words
}

// ofMany returns the words for an array or object whose values have one type.
func (r *jsonReader) ofMany(what string, e ast.Expr) (string, error) {
	one, err := r.typeWords(e)
	if err == nil && r.structs[one] == nil {
		one += "s"
	}
	return what + one, err
}

// docText returns a comment on one line.
func docText(c *ast.CommentGroup) string { return strings.Join(strings.Fields(c.Text()), " ") }

// jsonObjects returns the part of ipsec_json(5) about all objects.
func (p *page) jsonObjects() (string, error) {
	objects, err := readObjects(filepath.Join(p.dir, jsonSource))
	if err != nil {
		return "", err
	}
	var lists, others bytes.Buffer
	described := map[string]bool{}
	for _, o := range objects {
		applet, isList := strings.CutSuffix(o.name, "List")
		applet = strings.ToLower(applet)
		switch {
		case o.name == head:
			fmt.Fprintf(&lists, ".Ss Every list\n%s", paragraph(o.doc))
			writeFields(&lists, o.fields)
		case isList:
			if a, err := p.tables.applet(applet); err != nil || !a.printsJSON() {
				return "", fmt.Errorf("there is a %s, and ipsec %s prints no JSON", o.name, applet)
			}
			described[applet] = true
			fmt.Fprintf(&lists, ".Ss ipsec %s\n%s", applet, paragraph(o.doc))
			writeFields(&lists, o.fields)
		default:
			fmt.Fprintf(&others, ".Ss %s\n%s", o.name, paragraph(o.doc))
			writeFields(&others, o.fields)
		}
	}
	for name, a := range p.tables.applets {
		if a.printsJSON() && !described[name] {
			return "", fmt.Errorf("ipsec %s prints JSON, and lists.go of package output has nothing for it", name)
		}
	}
	return ".Sh LISTS\n" + lists.String() + ".Sh OBJECTS\n" + others.String(), nil
}

func writeFields(b *bytes.Buffer, fields []field) {
	b.WriteString(".Bl -tag -width Ds\n")
	for _, f := range fields {
		optional := ""
		if f.optional {
			optional = " , optional"
		}
		fmt.Fprintf(b, ".It Ic %s Pq %s%s\n%s", f.name, f.typ, optional, paragraph(f.doc))
	}
	b.WriteString(".El\n")
}

// reference finds the name of a page in a comment, and the punctuation after it.
var reference = regexp.MustCompile(` ?\b(ipsec\w*)\((\d)\)([.,;:)]*) ?`)

// paragraph returns text as mdoc: each sentence begins a line, and names of pages are
// marked up.
func paragraph(text string) string {
	text = strings.ReplaceAll(prose(text), ". ", ".\n")
	text = reference.ReplaceAllString(text, "\n.Xr $1 $2 $3\n")
	var sb strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			sb.WriteString(line + "\n")
		}
	}
	return sb.String()
}
