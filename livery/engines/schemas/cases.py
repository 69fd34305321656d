"""A schema as cases: every way to satisfy it, each with no choice left (see `state.State`).

Choices (anyOf, oneOf, if, dependencies, and what `not` makes of the rest) are multiplied out, and a
case is dropped as soon as nothing can satisfy it, so that conditions on one field stay as many
cases as the field has values. Values inside are asked for by what is said of them, all subschemas
that apply at once, so recursion ends in a case that is there already.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from livery.engines.schemas import keywords
from livery.engines.schemas.document import Document, Subschema
from livery.engines.schemas.faults import NoGrammar
from livery.engines.schemas.leaves import EMPTY, Scalar, fault, matches
from livery.engines.schemas.state import (
    NUMBERS,
    TYPES,
    ArrayFacet,
    Fact,
    Key,
    Literal,
    ObjectFacet,
    Problem,
    Some,
    State,
    adding,
    between,
    number_schemas,
    of_types,
    settled,
    string_schema,
    without,
)

STEPS = 250_000  # facts looked at
MOST_CASES = 2_000  # of one value
AHEAD = 16  # choices that are looked at together, for one that is none any more

Option = Sequence[Literal | Fact]
Branch = Sequence[Option]


class Cases:
    """The cases of a schema's values, worked out as they are asked for."""

    def __init__(self, document: Document):
        self.document = document
        self.root: Key = Key(document.literal(document.root))
        self._cases: dict[Key, tuple[State, ...]] = {}
        self._open: set[Key] = set()
        self._meaning: dict[Literal, tuple[list[Literal | Fact], list[Branch]]] = {}
        self._left = STEPS

    def spend(self, steps: int = 1) -> None:
        """Raises NoGrammar where the work goes beyond its limit."""
        self._left -= steps
        if self._left < 0:
            raise NoGrammar("", "#", "its choices multiply to more than can be worked out")

    def cases(self, key: Key) -> tuple[State, ...]:
        """Every way to satisfy all of it; some may turn out to hold nothing, by recursion alone."""
        if key not in self._cases:
            self._open.add(key)
            try:
                self._cases[key] = tuple(dict.fromkeys(self._multiplied(key)))
            finally:
                self._open.discard(key)
        return self._cases[key]

    def empty(self, key: Key) -> bool:
        """Whether nothing satisfies it, as far as that is known without going in circles."""
        return key not in self._open and not self.cases(key)

    # -- multiplying out --

    def _multiplied(self, key: Key) -> Iterable[State]:
        found: list[State] = []
        start: Option = sorted(key)
        stack: list[tuple[State, Option, frozenset[Literal], tuple[Branch, ...]]] = [
            (State(), start, frozenset(), ())
        ]
        while stack:
            state, facts, seen, branches = stack.pop()
            taken = self._taken(state, facts, set(seen), list(branches))
            if taken is None:
                continue
            state, known, waiting = taken
            if not waiting:
                late = self._late(state)
                if late is None:
                    found += self._finished(state)
                    if len(found) > MOST_CASES:
                        raise NoGrammar("", self.path(key), f"has over {MOST_CASES:,} cases")
                    continue
                waiting = [late]
            at = min(range(min(AHEAD, len(waiting))), key=lambda n: len(waiting[n]))
            rest = (*waiting[:at], *waiting[at + 1 :])
            for option in reversed(waiting[at]):
                stack.append((state, option, frozenset(known), rest))
        return found

    def _taken(
        self, state: State, facts: Option, seen: set[Literal], branches: list[Branch]
    ) -> tuple[State, set[Literal], list[Branch]] | None:
        """The state with the facts and all that follows from them; None where they contradict."""
        todo = deque(facts)
        while todo or branches:
            while todo:
                self.spend()
                fact = todo.popleft()
                if callable(fact):
                    changed = fact(state)
                    if changed is not None and changed is not state:
                        changed = self._living(changed, state)
                    if changed is None:
                        return None
                    state = changed
                    continue
                number, holds = fact
                if fact in seen:
                    continue
                if (number, not holds) in seen:
                    return None
                seen.add(fact)
                more, choices = self._means(fact)
                todo.extendleft(reversed(more))
                branches += choices
            left: list[Branch] = []
            for branch in branches[:AHEAD]:
                options = [o for o in branch if not self._contradicts(o, seen)]
                if not options:
                    return None
                if len(options) == 1:
                    todo.extend(options[0])
                else:
                    left.append(options)
            branches = left + branches[AHEAD:]
            if not todo:
                break
        return state, seen, branches

    def _contradicts(self, option: Option, seen: set[Literal]) -> bool:
        return any(not callable(f) and (f[0], not f[1]) in seen for f in option)

    def _means(self, literal: Literal) -> tuple[list[Literal | Fact], list[Branch]]:
        if literal not in self._meaning:
            number, holds = literal
            subschema = self.document.subschemas[number]
            self._meaning[literal] = (
                keywords.holds(self, subschema) if holds else keywords.fails(self, subschema)
            )
        return self._meaning[literal]

    def _living(self, state: State, before: State) -> State | None:
        """Without the objects that lack a possible value for a required name."""
        if "object" not in state.types:
            return state
        names = state.required
        if (state.members, state.fixed, state.names) == (
            before.members,
            before.fixed,
            before.names,
        ):
            names = names[len(before.required) :]
        if any(self.empty(self.member(state, name)) for name in names):
            return of_types(TYPES - {"object"})(state)
        return state

    def under(self, name: str, literals: tuple[Literal, ...]) -> Fact:
        """That the value under a name satisfies these. Where it is one of a few anyway, the few
        that are left are written down, so that many conditions on one name stay short."""

        def fact(state: State) -> State | None:
            old = self.member(state, name)
            values = self._finite(old) if old else None
            if values is None:
                return adding("members", ObjectFacet(names=((name, literals),)))(state)
            left = self._finite(Key([*old, *literals]))
            if left is None:
                return adding("members", ObjectFacet(names=((name, literals),)))(state)
            if len(left) == len(values):
                return state
            enum = Subschema({"enum": [value for _, value in left]}, "", "#")
            said = self.document.literal(enum) if left else (self.document.false,)
            return replace(state, fixed=(*(f for f in state.fixed if f[0] != name), (name, said)))

        return fact

    def _finite(self, key: Key) -> dict[Scalar, None] | None:
        """The scalars that satisfy it, where nothing else does; None else."""
        if key in self._open:
            return None
        states = self.cases(key)
        if any(state.values is None or state.problems for state in states):
            return None
        return dict.fromkeys(value for state in states for value in state.values or ())

    # -- what a case says of the values inside --

    def member(self, state: State, name: str) -> Key:
        """What is asked of the value under this name; a name that is not admitted has none."""
        self.spend(len(state.members) // 8)
        found: list[Literal] = []
        for facet in state.members:
            if name in facet.named or facet.patterns or facet.rest:
                found += _of_facet(facet, name)
        for fixed, literals in state.fixed:
            if fixed == name:
                found += literals
        if any(self._refuses_name(literal, name) for literal in state.names):
            found.append(self.document.false)
        return Key(found)

    def _refuses_name(self, literal: Literal, name: str) -> bool:
        constant = self.document.constant(name)
        return self.empty(Key([literal, *constant]))

    def other(self, state: State) -> Key:
        """What is asked of the values under names that no facet knows and no pattern fits."""
        if state.names and not self.free_names(state):
            return Key([self.document.false])
        return Key(literal for facet in state.members for literal in facet.rest)

    def free_names(self, state: State) -> list[State]:
        """The ways to spell a name that nothing lists, where the schema asks something of names."""
        spelled = self.cases(Key(state.names))
        return [s for s in spelled if s.values is None and "string" in s.types]

    def fitting(self, state: State, pattern: str) -> Key:
        """What is asked of the values under names of this pattern, which no other pattern fits."""
        found: list[Literal] = []
        for facet in state.members:
            fits = [literals for other, literals in facet.patterns if other == pattern]
            found += [x for literals in fits for x in literals] if fits else facet.rest
        return Key(found)

    def known(self, state: State) -> list[str]:
        """The names of a case, in the order in which its facets name them."""
        found = [name for facet in state.members for name, _ in facet.names]
        found += [name for name, _ in state.fixed]
        for state_of_name in self.cases(Key(state.names)) if state.names else ():
            values = state_of_name.values or ()
            found += [value for kind, value in values if kind == "string"]
        return list(dict.fromkeys([*found, *state.required]))

    def patterns(self, state: State) -> list[str]:
        return list(dict.fromkeys(p for facet in state.members for p, _ in facet.patterns))

    def item(self, state: State, at: int) -> Key:
        found: list[Literal] = []
        for facet in state.items:
            found += facet.prefix[at] if at < len(facet.prefix) else facet.rest
        return Key(found)

    def prefix(self, state: State) -> int:
        """Items that have a schema of their own."""
        return max((len(facet.prefix) for facet in state.items), default=0)

    def most_items(self, state: State, empty: Callable[[Key], bool]) -> int | None:
        """How many items there may be: none from the first on that nothing satisfies."""
        end = self.prefix(state) + 1
        places = range(end if state.most is None else min(end, state.most))
        return next((at for at in places if empty(self.item(state, at))), state.most)

    def closed(self, state: State) -> bool:
        """Whether an object has no names but the known ones."""
        patterns = self.patterns(state)
        return self.empty(self.other(state)) and all(
            self.empty(self.fitting(state, pattern)) for pattern in patterns
        )

    # -- the end of a case --

    def _finished(self, state: State) -> list[State]:
        """The case without the types that nothing satisfies; none where no type is left."""
        types = set(state.types)
        if "array" in types:
            state = replace(state, most=self.most_items(state, self.empty))
        if state.values is None:
            if "string" in types and state.strings and fault(string_schema(state)) == EMPTY:
                types.discard("string")
            numbers = number_schemas(state) if "integer" in types and state.multiples else []
            if numbers and all(fault(schema) == EMPTY for schema in numbers):
                types -= NUMBERS
        state = replace(state, types=frozenset(types))
        left = settled(state)
        return [left] if left else []

    def _late(self, state: State) -> Branch | None:
        """The next choice that needs all facets of the case; None where there is no more."""
        for kind, find in (("object", self._late_object), ("array", self._late_array)):
            if kind in state.types and (found := find(state)) is not None:
                if len(state.types) == 1:
                    return found
                return [[of_types({kind})], [of_types(TYPES - {kind})]]
        return None

    def _late_object(self, state: State) -> Branch | None:
        if state.some:
            return self._somewhere(state, state.some[0])
        least, largest = state.fewest, state.largest
        if not least and largest is None:
            return None
        names = self.known(state)
        optional = [
            name
            for name in names
            if name not in state.required and not self.empty(self.member(state, name))
        ]
        count, open_ = len(state.required), not self.closed(state)
        if count >= least and (largest is None or (not open_ and count + len(optional) <= largest)):
            return None
        if optional:
            absent = ObjectFacet(names=((optional[0], (self.document.false,)),))
            return [[adding("required", optional[0])], [adding("members", absent)]]
        if not open_ and count < least:
            return [[of_types(TYPES - {"object"})]]
        if least - count > 1 and not any(p.keyword == "minProperties" for p in state.problems):
            reason = "counts names that the schema does not list, which a grammar cannot keep apart"
            where = self.document.where("minProperties")
            problem = Problem(frozenset({"object"}), "minProperties", where, reason)
            return [[adding("problems", problem)]]
        return None

    def _somewhere(self, state: State, some: Some) -> Branch:
        """A property as `some` has it: of the known names, or one that no grammar can ask for."""
        done = without("some", some)
        options: list[Option] = []
        for name in self.known(state):
            if some.named is not None:
                if self._refuses_name(some.named, name):
                    options.append([done, adding("required", name)])
                continue
            inside = (
                matches(some.inside, name)
                if some.inside is not None
                else name not in some.known and not any(matches(p, name) for p in some.patterns)
            )
            if inside:
                said = self.under(name, some.literals)
                options.append([done, said, adding("required", name)])
        if not self.closed(state):
            reason = "asks for a property under a name that the schema does not list"
            problem = Problem(frozenset({"object"}), some.keyword, some.path, reason)
            options.append([done, adding("problems", problem)])
        return options or [[of_types(TYPES - {"object"})]]

    def _late_array(self, state: State) -> Branch | None:
        if not state.contains:
            return None
        asked = state.contains[0]
        done = without("contains", asked)
        count = between("least", "most", asked.start + asked.least,
                        None if asked.most is None else asked.start + asked.most)  # fmt: skip
        if asked.literal is None:  # every item counts
            return [[done, count]]
        places = range(asked.start, max(asked.start, self.prefix(state)) + 1)
        refused = (asked.literal[0], not asked.literal[1])
        if all(self.empty(self.item(state, at) | {refused}) for at in places):
            return [[done, count]]
        if all(self.empty(self.item(state, at) | {asked.literal}) for at in places):
            return [[done] if asked.least == 0 else [of_types(TYPES - {"array"})]]
        most = self.most_items(state, self.empty)  # a closed list of items has its end, too
        if asked.least == 1 and asked.most is None and most is not None and most <= 64:
            options: list[Option] = []
            for at in range(asked.start, most):
                facet = ArrayFacet((*(((),) * at), (asked.literal,)))
                options.append([done, adding("items", facet), between("least", "most", at + 1)])
            return options or [[of_types(TYPES - {"array"})]]
        if asked.most == 0:
            return [[done, adding("items", ArrayFacet(rest=(refused,)))]]
        reason = "asks for an item at any place of a list without a limit"
        problem = Problem(frozenset({"array"}), "contains", asked.path, reason)
        return [[done, adding("problems", problem)]]

    def path(self, key: Key) -> str:
        """Where the first of what is asked stands."""
        return self.document.subschemas[min(key)[0]].path if key else "#"

    def disjoint(self, first: Literal, second: Literal) -> bool:
        return self.empty(Key([first, second]))


def _of_facet(facet: ObjectFacet, name: str) -> list[Literal]:
    fits = [literals for pattern, literals in facet.patterns if matches(pattern, name)]
    if name in facet.named:
        fits.insert(0, facet.named[name])
    return [literal for literals in fits or [facet.rest] for literal in literals]
