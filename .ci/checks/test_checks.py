"""Each way in which a check can fail, seen failing once: a small repository that is sound, and one change to it."""
import unittest

from . import citations, contract, layers, links, symbols, words
from .repository import Repository

LAWS = """# Laws

### Law 1: one
Test: [`law_01_holds`](../tests/laws.rs).
"""
CONTRACT = """# Contract

| `GET /v1/things` | a page |

### States of a thing

| from | to | why |
|---|---|---|
| `none` | `made` | it is made |

## Problems

| `not-found` | 404 |

### Idempotency rule 1: one
### Invariant 1: one

| `Kept` | it is kept |

Test: [`law_01_holds`](../tests/laws.rs)
"""
SOUND = {
    "docs/laws.md": LAWS,
    "docs/contract.md": CONTRACT,
    "docs/isolation.md": "| component | bad item | others | test |\n|---|---|---|---|\n"
    "| [`begin`](../src/app.rs) | slow | none | [`law_01_holds`](../tests/laws.rs) |\n",
    "docs/tour.md": "Begin at [`App::begin`](../src/app.rs#L2), see [one](laws.md#law-1-one).",
    "src/app.rs": "// begin\nfn begin() {}\n",
    "tests/laws.rs": "#[tokio::test(start_paused = true)]\nasync fn law_01_holds() {}\nfn helper() {}\n",
    "migrations/1.sql": "INSERT INTO transitions VALUES ('thing', 'none', 'made');",
    "crates/checker/src/report.rs": '    Kept = 1, "it is kept";\n',
    "services/things/src/http.rs": "/// List\n///\n/// Consistency: one snapshot.\n"
    '#[utoipa::path(\n    get, path = "/v1/things",\n)]\nfn list() { Problem::new(StatusCode::NOT_FOUND, "not-found", "") }\n',
}


SOUND["services/order/src/domain/status.rs"] = "// async, sqlx\nfn after() {}\n"
SOUND["services/order/src/app/place.rs"] = "use crate::store::Store;\n#[cfg(test)]\nuse sqlx::Error;\n"
SOUND["services/order/src/store/mod.rs"] = "use sqlx::PgConnection;\n"
SOUND["services/order/src/http/commands.rs"] = "use axum::Router;\n"
SOUND["services/order/src/reconcile/mod.rs"] = "use crate::app::App;\n"


def faults(path="", old="", new="", **files):
    texts = {**SOUND, **files}
    if path:
        assert old in texts[path], f"{path} has no {old!r}"
        texts[path] = texts[path].replace(old, new)
    repository = Repository(texts)
    checks = [links.check, symbols.check, words.check, citations.check, contract.check, layers.check]
    return [fault for check in checks for fault in check(repository)]


class Checks(unittest.TestCase):
    def reports(self, expected, *change):
        found = faults(*change)
        self.assertTrue(any(expected in fault for fault in found), f"{expected!r} is not in {found}")

    def test_a_sound_repository_has_no_fault(self):
        self.assertEqual(faults(), [])

    def test_a_link_leads_nowhere(self):
        self.reports("leads nowhere", "docs/tour.md", "(laws.md", "(lost.md")
        self.reports("names no heading", "docs/tour.md", "#law-1-one", "#law-9")

    def test_a_number_is_cited_that_is_not_defined(self):
        for kind in ["law", "invariant", "idempotency rule"]:
            self.reports(f"{kind} 7 is not defined", "src/app.rs", "// begin", f"// {kind} 7")
        self.reports("law 3 is not defined", "src/app.rs", "// begin", "// laws 1 to 3")
        self.reports("invariant 2 is not defined", "src/app.rs", "// begin", "// Invariants 1 and 2 hold")
        self.reports("law 12 is not defined", "src/app.rs", "begin()", "law_12_begins()")

    def test_a_layer_of_a_service_names_another_layers_tools(self):
        for layer, file, lines in [
            ("domain", "status", ["async fn f() {}", "use crate::store::Order;", "use sqlx::Row;", "use axum::Json;"]),
            ("store", "mod", ["use crate::app::App;", "use axum::Json;"]),
            ("app", "place", ["use journal::Batch;", "Ok(Step::Commit(()))", "use sqlx::Row;", "use crate::http::Api;"]),
            ("http", "commands", ["connection: &mut PgConnection", "use crate::reconcile::sweep;"]),
            ("reconcile", "mod", ["use journal::Step::Commit;"]),
        ]:
            path = f"services/order/src/{layer}/{file}.rs"
            for line in lines:
                self.reports(f"{path}:1: `{layer}` may not name", path, SOUND[path].split("\n")[0], line)

    def test_a_law_or_an_invariant_has_no_test(self):
        self.reports("law 1 links to no test", "docs/laws.md", "Test: [`law_01_holds`](../tests/laws.rs).", "")
        self.reports("invariant 1 links to no test", "docs/contract.md", "[`law_01_holds`](../tests/laws.rs)", "")

    def test_a_linked_test_does_not_exist_or_is_no_test(self):
        self.reports("has no test law_01_holds", "tests/laws.rs", "law_01_holds", "law_01_held")
        self.reports("has no test helper", "docs/laws.md", "`law_01_holds`", "`helper`")

    def test_a_row_of_isolation_names_a_test_that_exists(self):
        page, link = "docs/isolation.md", "[`law_01_holds`](../tests/laws.rs)"
        self.reports(f"{page}:3: the row links to no test", page, link, "none")
        self.reports(f"{page}:3: ../tests/laws.rs has no test helper", page, link, "[`helper`](../tests/laws.rs)")

    def test_a_number_is_defined_twice(self):
        self.reports("law 1 is defined twice", "docs/laws.md", "### Law 1: one\n", "### Law 1: one\n### Law 1: two\n")

    def test_a_line_link_does_not_point_at_its_symbol(self):
        self.reports("is not at line 2", "src/app.rs", "// begin\n", "// begin\n// again\n")
        self.reports("does not contain 'begin'", "src/app.rs", "begin", "start")
        self.reports("names a symbol in a code span", "docs/tour.md", "`App::begin`", "here")

    def test_a_name_that_is_linked_without_a_line_is_gone(self):
        page = {"GLOSSARY.md": "[`begin`](src/app.rs)"}
        self.assertEqual(faults(**page), [])
        self.assertIn("src/app.rs does not contain 'begin'", str(faults("src/app.rs", "begin", "start", **page)))

    def test_fix_moves_a_line_link_to_the_definition(self):
        moved = Repository({**SOUND, "src/app.rs": "// begin\n\n\nfn begin() {}\nfn end() { begin() }\n"})
        self.assertIn("app.rs#L4)", dict(symbols.fixed(moved))["docs/tour.md"])
        self.assertEqual(dict(symbols.fixed(Repository(SOUND))), {})

    def test_the_contract_lacks_what_the_code_has(self):
        self.reports("GET /v1/things is not in the routes", "docs/contract.md", "| `GET /v1/things` |", "| |")
        self.reports("has no sentence", "services/things/src/http.rs", "Consistency: ", "")
        self.reports("the problem gone is not in the table", "services/things/src/http.rs", '"not-found"', '"gone"')
        self.reports("no code gives the problem not-found", "services/things/src/http.rs", '"not-found"', '"gone"')
        self.reports("lacks made to lost", "migrations/1.sql", ";", ", ('thing','made',  'lost');")
        self.reports("has, and the migrations do not, none to made", "migrations/1.sql", "'none', 'made'", "'none', 'lost'")
        self.reports("lacks the row `Kept`: it is held", "crates/checker/src/report.rs", "it is kept", "it is held")

    def test_a_word_that_may_not_land(self):
        self.reports("may not land", "src/app.rs", "// begin", "// FIX" + "ME")


if __name__ == "__main__":
    unittest.main()
