"""What the style check knows of one C++ file: its lines, functions, classes, and the names it declares and uses.

The file is read by tree-sitter, without a build and without following #include (docs/decisions/0032).
"""
import re
from collections import Counter
from dataclasses import dataclass, field

import tree_sitter
import tree_sitter_cpp

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_cpp.language()))
ASSERT = re.compile(r"\bMEMKV_(?:ASSERT|CHECK)\s*\(")
CONSTANT = re.compile(r"true$|sizeof$|k[A-Z]")
NAME = re.compile(r"[A-Za-z_]\w*")

# What the grammar does not know, and something of the same length that it does.
REPLACEMENTS = [
    (re.compile(rb"= \{\}"), lambda m: b"= 00"),
    (re.compile(rb"->\*"), lambda m: b"-> "),
    (re.compile(rb"\b(?:\w+::)+\*"), lambda m: b" " * (len(m[0]) - 1) + b"*"),
    (re.compile(rb"\b__int128\b"), lambda m: b"int     "),
    (re.compile(rb"(?<!define )\b[A-Z]+_API\b"), lambda m: b" " * len(m[0])),
    (re.compile(rb"__has_include\([^)]*\)"), lambda m: b"1".ljust(len(m[0]))),
    (re.compile(rb"(for \(; )auto\b"), lambda m: m[1] + b"    "),  # a declaration as a loop's condition
]
CLASSES = ("class_specifier", "struct_specifier", "union_specifier")
CONTAINERS = ("translation_unit", "declaration_list", "field_declaration_list", "linkage_specification", "preproc_if",
              "preproc_ifdef", "preproc_else", "preproc_elif")
WRAPPERS = ("pointer_declarator", "reference_declarator", "array_declarator", "init_declarator",
            "parenthesized_declarator", "attributed_declarator", "attributed_statement", "pointer_type_declarator")
NAMES = ("identifier", "field_identifier", "type_identifier", "qualified_identifier", "destructor_name",
         "operator_name", "template_function", "operator_cast")


@dataclass
class Function:
    """A function's definition. `scope` is the class it belongs to, or its namespace."""
    name: str
    scope: tuple
    line: int
    lines: int
    explained: bool


@dataclass
class Class:
    name: tuple
    line: int
    methods: list = field(default_factory=list)
    fields: list = field(default_factory=list)


@dataclass
class Declared:
    """A name that a header offers. `sort` says what it is: function, method, type, constant, field, macro."""
    name: str
    sort: str
    line: int
    scope: tuple


@dataclass
class Source:
    path: str
    lines: int = 0
    blank_lines: int = 0
    comment_lines: int = 0
    asserts: int = 0
    idle_asserts: list = field(default_factory=list)  # lines of asserts that cannot fail
    functions: list = field(default_factory=list)
    classes: list = field(default_factory=list)
    declared: list = field(default_factory=list)
    explained: set = field(default_factory=set)  # (scope, name) of declarations with a comment
    includes: list = field(default_factory=list)
    uses: Counter = field(default_factory=Counter)  # of each name in code, but not its declarations and definitions
    code: list = field(default_factory=list)  # lines without comments, strings emptied
    comments: list = field(default_factory=list)  # (line, text)
    unread: list = field(default_factory=list)  # lines that the parser could not make sense of

    @property
    def code_lines(self):
        return self.lines - self.blank_lines - self.comment_lines


def read(path, data):
    """Reads a file's bytes into a Source."""
    source = Source(path=path)
    text = data
    for pattern, replacement in REPLACEMENTS:
        text = pattern.sub(replacement, text)
    root = PARSER.parse(text).root_node
    bare = take_out(source, root, data)
    count_lines(source, data, bare)
    named = Reader(source).walk(root)
    source.uses = Counter(NAME.findall(bare))
    source.uses.subtract(named)
    source.includes = re.findall(r'^\s*#\s*include\s*"([^"]+)"', data.decode(errors="replace"), re.M)
    source.unread = sorted(set(unread_lines(root)))
    return source


def take_out(source, root, data):
    """The file without comments and with its strings emptied; everything stays at its place."""
    bare = bytearray(data)
    for node in nodes(root):
        if node.type == "comment":
            source.comments.append((node.start_point.row + 1, data[node.start_byte:node.end_byte].decode(errors="replace")))
        elif node.type not in ("string_content", "character", "raw_string_content", "system_lib_string"):
            continue
        for at in range(node.start_byte, node.end_byte):
            if bare[at] != 0x0A:
                bare[at] = 0x20
    return bare.decode(errors="replace")


def nodes(root):
    """All nodes, but nothing below a string or a comment."""
    cursor = root.walk()
    while True:
        yield cursor.node
        if cursor.goto_first_child():
            continue
        while not cursor.goto_next_sibling():
            if not cursor.goto_parent():
                return


def unread_lines(root):
    """Lines with an error that hides more than a token: a class or a function may be missing from the measure."""
    stack = [root]
    while stack:
        node = stack.pop()
        if node.type == "ERROR" and (node.end_point.row > node.start_point.row or len(node.text) > 40):
            yield node.start_point.row + 1
        elif node.has_error:
            stack.extend(node.children)


def count_lines(source, data, bare):
    source.code = bare.split("\n")
    text = data.decode(errors="replace").splitlines()
    source.lines = len(text)
    source.blank_lines = sum(not line.strip() for line in text)
    source.comment_lines = sum(bool(line.strip()) and not left.strip() for line, left in zip(text, source.code))
    for found in ASSERT.finditer(bare):
        start = bare.rfind("\n", 0, found.start()) + 1
        if bare[start:].lstrip().startswith("#"):
            continue
        source.asserts += 1
        if all(CONSTANT.match(name) for name in NAME.findall(condition_at(bare, found.end()))):
            source.idle_asserts.append(bare.count("\n", 0, start) + 1)


def condition_at(text, start):
    """The first argument of a call whose parenthesis opens before start."""
    depth = 0
    for at in range(start, len(text)):
        if depth == 0 and text[at] in ",)":
            return text[start:at]
        depth += (text[at] in "([{") - (text[at] in ")]}")
    return text[start:]


class Reader:
    """Walks namespaces and classes, not the bodies of functions. Collects into its Source."""

    def __init__(self, source):
        self.source = source
        self.named = Counter()  # names at the places where they are declared or defined

    def walk(self, root):
        self.container(root, (), None)
        return self.named

    def container(self, node, scope, owner):
        explained = False  # a comment ends in the line before
        last_row = -2
        for child in node.children:
            if child.type == "comment":
                if child.start_point.row == last_row and explained is not None:
                    self.trailing(scope)
                else:
                    explained = True
                last_row = child.end_point.row
                continue
            in_front = explained is True and child.start_point.row <= last_row + 1
            self.last_declared = None
            self.item(child, child, scope, owner, in_front)
            last_row = child.end_point.row
            explained = False

    def trailing(self, scope):
        """A comment behind a declaration, in its line."""
        if self.last_declared:
            self.source.explained.add((scope, self.last_declared))

    def item(self, node, whole, scope, owner, explained):
        """One child of a namespace or class. `whole` is the node with its `template <...>` in front."""
        kind = node.type
        if kind in CONTAINERS:
            self.container(node, scope, owner)
            if kind == "linkage_specification":
                self.last_declared = None
        elif kind == "namespace_definition":
            self.namespace(node, scope)
        elif kind == "template_declaration":
            for child in node.children:
                if child.type not in ("template", "template_parameter_list", "comment"):
                    self.item(child, node, scope, owner, explained)
        elif kind == "function_definition":
            self.function(node, whole, scope, owner, explained)
        elif kind in CLASSES:
            self.a_class(node, scope)
        elif kind == "enum_specifier":
            self.enum(node, scope)
        elif kind in ("field_declaration", "declaration"):
            self.declaration(node, scope, owner, explained)
        elif kind in ("alias_declaration", "type_definition"):
            name = node.child_by_field_name("name") or node.child_by_field_name("declarator")
            if name is not None:
                self.declare(name.text.decode(), "type", node, scope)
        elif kind in ("preproc_def", "preproc_function_def"):
            self.declare(node.child_by_field_name("name").text.decode(), "macro", node, ())

    def namespace(self, node, scope):
        name = node.child_by_field_name("name")
        inner = scope + (tuple(name.text.decode().replace(" ", "").split("::")) if name is not None else ("",))
        self.container(node.child_by_field_name("body"), inner, None)

    def a_class(self, node, scope):
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        if name is None or body is None:
            if name is not None:  # a forward declaration uses nothing
                self.named[plain(name)] += 1
            if body is not None:
                self.container(body, scope, Class(scope, 0))
            return
        inner = scope + (plain(name),)
        self.declare(plain(name), "type", node, scope)
        owner = Class(inner, node.start_point.row + 1)
        self.source.classes.append(owner)
        self.container(body, inner, owner)

    def enum(self, node, scope):
        name, body = node.child_by_field_name("name"), node.child_by_field_name("body")
        is_scoped = any(c.type in ("class", "struct") for c in node.children)
        if name is not None and is_scoped:  # the name of another one is a heading over its constants
            self.declare(name.text.decode(), "type", node, scope)
        elif name is not None:
            self.named[name.text.decode()] += 1
        for child in body.named_children if body is not None else ():
            if child.type == "enumerator":
                self.declare(child.child_by_field_name("name").text.decode(), "constant", child, scope)

    def function(self, node, whole, scope, owner, explained):
        """A definition: in a class it declares a method as well."""
        declarator = function_declarator(node.child_by_field_name("declarator"))
        if declarator is None:
            return
        path = names_of(declarator)
        left_out = any(c.type in ("delete_method_clause", "default_method_clause") for c in node.children)
        if owner is not None:
            if not left_out:
                owner.methods.append(path[-1])
            self.method_or_function(path[-1], node, scope, owner)
        else:
            self.named[path[-1]] += 1
            if len(path) == 1 and not self.is_defined_here(scope):
                self.method_or_function(path[-1], node, scope, owner, counted=True)
        if not left_out:
            lines = whole.end_point.row - whole.start_point.row + 1
            self.source.functions.append(
                Function(path[-1], scope + path[:-1], whole.start_point.row + 1, lines, explained))
        if explained:
            self.source.explained.add((scope + path[:-1], path[-1]))
        self.last_declared = path[-1]

    def is_defined_here(self, scope):
        return not self.source.path.endswith(".h")

    def method_or_function(self, name, node, scope, owner, counted=False):
        if owner is not None and scope and name.lstrip("~") == scope[-1] or name.startswith(("operator", "~")):
            self.named[name.lstrip("~")] += 1  # constructors and operators are used without being named
            return
        self.declare(name, "method" if owner is not None else "function", node, scope, counted)

    def declaration(self, node, scope, owner, explained):
        """Variables, fields, and functions without their bodies; and a class or enum in front of them."""
        kind = node.child_by_field_name("type")
        if kind is not None and (kind.type in CLASSES or kind.type == "enum_specifier"):
            self.item(kind, kind, scope, owner, explained)
        words = {c.text.decode() for c in node.children if c.type in ("storage_class_specifier", "type_qualifier")}
        for child in node.children_by_field_name("declarator"):
            function = function_declarator(child)
            path = names_of(function if function is not None else child)
            if not path:
                continue
            if function is not None:
                if owner is not None and not node_is_left_out(node):
                    owner.methods.append(path[-1])
                if len(path) == 1:
                    self.method_or_function(path[0], node, scope, owner)
            elif owner is not None and not words & {"static", "constexpr"}:
                owner.fields.append(path[-1])
                self.declare(path[-1], "field", node, scope)
            elif len(path) == 1:
                self.declare(path[0], "constant", node, scope)
            else:
                self.named[path[-1]] += 1
            if explained:
                self.source.explained.add((scope + path[:-1], path[-1]))
            self.last_declared = path[-1]

    def declare(self, name, sort, node, scope, counted=False):
        if not counted:
            self.named[name] += 1
        self.source.declared.append(Declared(name, sort, node.start_point.row + 1, scope))


def node_is_left_out(node):
    return any(c.type in ("delete_method_clause", "default_method_clause") for c in node.children)


def plain(name):
    """A class's name without its template arguments and namespaces."""
    return name.text.decode().split("<")[0].split("::")[-1].strip()


def function_declarator(node):
    """The function_declarator in a declarator, or None where it declares a variable (a pointer to a function too)."""
    while node is not None:
        if node.type in ("function_declarator", "operator_cast"):
            inner = node.child_by_field_name("declarator")
            is_pointer = inner is not None and inner.type == "parenthesized_declarator" and node.type != "operator_cast"
            return None if is_pointer else node
        if node.type not in WRAPPERS:
            return None
        node = node.child_by_field_name("declarator") or next(iter(node.named_children), None)
    return None


def names_of(node):
    """The name in a declarator, cut at its `::`."""
    while node is not None and node.type not in NAMES:
        inner = node.child_by_field_name("declarator")
        if inner is None:
            inner = next((c for c in node.named_children if c.type in NAMES or c.type in WRAPPERS
                          or c.type == "function_declarator"), None)
        node = inner
    if node is None:
        return ()
    if node.type == "operator_cast":
        return ("operator " + node.text.decode().split("(")[0].replace("operator", "").strip(),)
    path = []
    while node.type == "qualified_identifier":
        scope = node.child_by_field_name("scope")
        if scope is not None:
            path.append(plain(scope))
        node = node.child_by_field_name("name")
    if node.type == "operator_cast":
        return (*path, "operator " + node.text.decode().split("(")[0].replace("operator", "").strip())
    return (*path, node.text.decode().split("<")[0] if node.type == "template_function" else node.text.decode())
