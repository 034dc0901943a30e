"""Imports, dumps, schema versions, certificates and the command line of the registry."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click.testing
import pytest
from registry_world import NOON, PostgresServer, new_database, settled, small_world, some_deals
from registry_world import postgres as postgres
from registry_world import url as url
from registry_world import world as world
from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError, IntegrityError
from typer.testing import CliRunner

from cea.main import command as cea
from settlement import certificate, imports, store, versions
from settlement.command_line import database_url
from settlement.commands import app
from settlement.compliance import Compliance
from settlement.dump import dump, restore
from settlement.errors import Refused, accepted
from settlement.registry import AccountForm, Registry
from settlement.verify import verify

# -- CSV


def issues(count: int) -> list[str]:
    return ["account,asset,quantity,document", *(f"{n % 4 + 1},CEA24,{n + 1},alloc-{n}" for n in range(count))]


def test_a_file_of_allocations_is_imported_whole_and_again_does_nothing(world: Registry) -> None:
    done = imports.import_issues(world, issues(300), NOON)
    assert (done.rows, done.repeated, done.bad) == (300, 0, [])
    assert imports.import_issues(world, issues(300), NOON).repeated == 300
    assert world.circulation()["CEA24"]["issued"] == 4_000_000 + 300 * 301 // 2
    assert verify(world.engine) == []


def test_one_bad_row_imports_nothing_and_every_bad_row_is_named(world: Registry) -> None:
    lines = issues(20)
    lines[3] = "1,CEA24,-5,alloc-2"
    lines[7] = "99,CEA24,5,alloc-6"
    lines[9] = "1,CEA24,5.5,alloc-8"
    lines[11] = "1,CEA24,5,alloc-1"
    lines[13] = "1,CEA24,5"
    lines[15] = "1,CEA24,5,x,pre-allocation,too,many"
    done = imports.import_issues(world, lines, NOON)
    assert done.rows == 0
    assert [(bad.line, bad.field) for bad in done.bad] == [
        (4, "quantity"),
        (8, "account"),
        (10, "quantity"),
        (12, "document"),
        (14, "document"),
        (16, "file"),
    ]
    assert world.circulation()["CEA24"]["issued"] == 4_000_000
    assert imports.import_issues(world, ["account,asset,amount"], NOON).bad[0].field == "quantity"


def test_accounts_and_obligations_come_from_files(world: Registry) -> None:
    lines = ["number,account,name,identity", "N7,7,七号电厂,91-7", "N8,8,八号电厂,91-8"]
    assert imports.import_accounts(world, lines, "batch-1", NOON).rows == 2
    assert accepted(world.account(7)).name == "七号电厂"
    assert imports.import_accounts(world, lines, "batch-1", NOON).repeated == 2
    again = imports.import_accounts(world, [lines[0], "N9,9,x,91-9", "N7,10,x,91-10"], "batch-2", NOON)
    assert [(bad.line, bad.field) for bad in again.bad] == [(3, "number")]
    assert isinstance(world.account(9), Refused)
    rows = ["account,year,emissions_t,deadline,document", "7,2024,500,20251231,mee-7"]
    assert imports.import_obligations(world, rows, NOON).rows == 1
    assert world.compliance(2024, 20251203)[0].emissions_t == 500


# -- dumps and versions


@pytest.mark.slow  # a server of its own; tests/test_settlement.py is the fast suite's on PostgreSQL
def test_a_dump_restores_on_either_database(world: Registry, postgres: PostgresServer, tmp_path: Path) -> None:
    settled(world, some_deals(40, fees=True))
    accepted(world.open_account(AccountForm(9, "R9", "O'Neil, X'00' Ltd", "91-9"), "open-9", NOON))
    lines = list(dump(world.engine))
    for target in (f"sqlite:///{tmp_path}/copy.db", new_database(postgres)):
        copy = store.open_engine(target)
        assert restore(copy, lines) == len(lines) - 2
        assert list(dump(copy))[-1] == lines[-1]
        assert Registry(copy).holdings() == world.holdings()
        assert accepted(Registry(copy).account(9)).name == "O'Neil, X'00' Ltd"
        copy.dispose()


def test_a_dump_that_is_cut_or_changed_is_refused(world: Registry, tmp_path: Path) -> None:
    lines = list(dump(world.engine))
    changed = [line.replace("'issue-CEA24-1'", "'issue-CEA24-9'") for line in lines]
    for number, damaged in enumerate((lines[:-1], changed, ["-- something else", *lines[1:]])):
        refused = restore(store.open_engine(f"sqlite:///{tmp_path}/{number}.db"), damaged)
        assert isinstance(refused, Refused)
    assert isinstance(restore(world.engine, lines), Refused)


def test_a_migrated_database_has_the_objects_of_a_new_one(
    tmp_path: Path, url: str, request: pytest.FixtureRequest
) -> None:
    """Tables, constraints, indexes and triggers, version by version: migrations and schema.py say the same."""
    found = []
    for number, lay_down in enumerate((versions.create, versions.migrate)):
        sqlite = url.startswith("sqlite")
        engine = store.open_engine(
            f"sqlite:///{tmp_path}/{number}.db" if sqlite else new_database(request.getfixturevalue("postgres"))
        )
        lay_down(engine)
        with engine.connect() as connection:
            plain = connection.execution_options(no_parameters=True)  # the text has percent signs
            texts = plain.exec_driver_sql(_OBJECTS[engine.dialect.name]).scalars().all()
            # The order of a table's constraints does not matter.
            found.append(sorted(tuple(sorted(line.strip(" ,\t") for line in text.splitlines())) for text in texts))
        assert versions.version(engine) == versions.HEAD == versions.known()[-1]
        engine.dispose()
    assert found[0] == found[1]
    assert len(found[0]) > 40


_OBJECTS = {
    "sqlite": "SELECT coalesce(sql, name) FROM sqlite_master WHERE name NOT LIKE '%alembic%'",
    "postgresql": """
        SELECT conrelid::regclass || ' ' || conname || ' ' || pg_get_constraintdef(oid) FROM pg_constraint
            WHERE conrelid <> 0 AND conrelid::regclass::text NOT LIKE '%alembic%'
        UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
        UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE '%alembic%'
        UNION ALL SELECT table_name || ' ' || column_name || ' ' || data_type || ' ' || is_nullable
            FROM information_schema.columns WHERE table_schema = 'public' AND table_name NOT LIKE '%alembic%'
        UNION ALL SELECT proname || ' ' || prosrc FROM pg_proc WHERE pronamespace = 'public'::regnamespace""",
}


def test_the_database_itself_refuses_a_transfer_of_no_account(url: str) -> None:
    registry = small_world(url)
    names = "act, leg, debit, credit, amount, kind, state, batch"
    row = f"INSERT INTO transfer ({names}) VALUES (9, 0, 1, 999999, 1, 2, 0, 1)"
    with pytest.raises(IntegrityError), store.writing(registry.engine) as connection:
        connection.exec_driver_sql(row)
    with pytest.raises(DBAPIError), store.writing(registry.engine) as connection:
        connection.exec_driver_sql("DELETE FROM ledger_account")
    registry.close()


def test_a_dump_of_an_older_schema_is_brought_up_to_date(tmp_path: Path) -> None:
    registry = small_world(f"sqlite:///{tmp_path}/r.db")
    settled(registry, some_deals(20))
    lines = [line for line in dump(registry.engine) if 'INTO "deal_fee"' not in line]
    lines[0] = lines[0].replace(versions.HEAD, "0001")
    copy = store.open_engine(f"sqlite:///{tmp_path}/copy.db")
    assert restore(copy, lines) == len(lines) - 2
    assert versions.version(copy) == versions.HEAD
    assert Registry(copy).holdings() == registry.holdings()
    registry.close()


@pytest.mark.parametrize(("found", "word"), [("0000", "cea registry migrate"), ("9999", "newer")])
def test_another_versions_database_is_not_opened(url: str, found: str, word: str) -> None:
    small_world(url).close()
    engine = store.open_engine(url)
    with store.writing(engine) as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{found}'")
    with pytest.raises(versions.SchemaMismatch, match=word):
        Registry.open(url)
    engine.dispose()


def test_a_foreign_database_is_left_alone(url: str) -> None:
    engine = store.open_engine(url)
    with store.writing(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE somebody (x INTEGER)")
    with pytest.raises(versions.SchemaMismatch, match="not a registry's"):
        Registry.open(url)
    assert inspect(engine).get_table_names() == ["somebody"]
    engine.dispose()


# -- certificates

ENTITY = Compliance(7, 2024, 1_000, 20251231, 950, 50)
FORM = AccountForm(7, "R7", "七号电厂", "91-7")


def test_a_certificate_is_genuine_until_a_character_changes(tmp_path: Path) -> None:
    certificate.new_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    key = certificate.load_key(tmp_path / "key.pem")
    page = certificate.certificate(ENTITY, FORM, 20251203, key)
    assert isinstance(page, str)
    public = certificate.public_hex(key)
    assert certificate.is_genuine(page, public)
    for forged in (page.replace("950", "951"), page + "x", page[:-9], page.replace("七", "八"), ""):
        assert not certificate.is_genuine(forged, public)
    certificate.new_key(tmp_path / "other.pem")
    assert not certificate.is_genuine(page, certificate.public_hex(certificate.load_key(tmp_path / "other.pem")))


def test_no_certificate_for_an_entity_that_lacks_a_tonne(tmp_path: Path) -> None:
    certificate.new_key(tmp_path / "key.pem")
    lacking = replace(ENTITY, surrendered_t=949)
    page = certificate.certificate(lacking, FORM, 20251203, certificate.load_key(tmp_path / "key.pem"))
    assert isinstance(page, Refused)
    assert "1 t are missing" in page.reason


# -- the command line


def run(*words: object, code: int = 0) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == code, done.output
    return done.output


def test_an_entity_lives_a_year_on_the_command_line(tmp_path: Path) -> None:
    db = ("--db", tmp_path / "r.db")
    run("holdings", *db, code=3)
    run("create", *db)
    run("add-asset", "CEA24", "--vintage", 2024, *db)
    run("open", 1, "--number", "R1", "--name", "一号", "--identity", "91-1", "-d", "o-1", *db)
    file = tmp_path / "alloc.csv"
    file.write_text("account,asset,quantity,document\n1,CEA24,1000,a-1\n", encoding="utf-8")
    run("import-issues", file, *db)
    assert json.loads(run("issue", 1, "CEA24", 5, "-d", "a-2", "--json", *db))["done"] is True
    assert json.loads(run("issue", 1, "CEA24", 0, "-d", "a-3", "--json", *db, code=1))["field"] == "quantity"
    run("freeze", 1, "CEA24", 5, "-d", "c-1", *db)
    run("deduct", "c-1", 5, "-d", "c-2", *db)
    run("obligation", 1, 2024, 1000, 20251231, "-d", "m-1", *db)
    assert json.loads(run("warnings", 2024, 20251203, "--json", *db))[0]["warning"] == "watch"
    run("certificate", 1, 2024, 20251203, "--key", tmp_path / "k.pem", *db, code=1)
    run("surrender", 1, 2024, "CEA24", 1000, "-d", "s-1", *db)
    page = tmp_path / "page.txt"
    page.write_text(run("certificate", 1, 2024, 20251203, "--key", tmp_path / "k.pem", *db), encoding="utf-8")
    assert "履约完成证明" in page.read_text(encoding="utf-8")
    public = certificate.public_hex(certificate.load_key(tmp_path / "k.pem"))
    assert "genuine" in run("check-certificate", page, "--public", public)
    run("check-certificate", page, "--public", "0" * 64, code=1)
    assert json.loads(run("history", "CEA24-000000000010", "--json", *db))[-1]["kind"] == "surrender"
    assert "1,CEA24,surrendered,1000,0" in run("holdings", "--csv", *db)
    assert json.loads(run("verify", "--json", *db)) == {"sound": True, "findings": []}
    assert "end of dump" in run("dump", *db)


def test_requests_funds_and_accounts_on_the_command_line(tmp_path: Path) -> None:
    small_world(f"sqlite:///{tmp_path}/r.db").close()
    db = ("--db", tmp_path / "r.db")
    run("issue", 1, "CEA24", 50, "-d", "i-1", *db)
    run("request-cancel", 1, "CEA24", 50, "-d", "q-1", *db)
    assert "cancel,q-1,1,50," in run("waiting", "--csv", *db)
    run("cancel", 1, "CEA24", 1, "-d", "c-1", *db, code=1)
    run("decide-cancel", "q-1", "--refuse", "-d", "q-2", *db)
    assert run("waiting", "--csv", *db).strip() == "kind,document,account,amount,time_ns"
    run("fund-reserve", 500, "-d", "f-1", *db)
    run("pay-fees", 5, "-d", "p-1", *db, code=1)
    assert {row["account"]: row["fen"] for row in json.loads(run("funds", "--json", *db))}["reserve"] == 500
    listed = tmp_path / "accounts.csv"
    listed.write_text(run("accounts", "--csv", *db), encoding="utf-8")
    run("create", "--db", tmp_path / "copy.db")
    assert "4 rows imported" in run("import-accounts", listed, "-d", "all", "--db", tmp_path / "copy.db")


@pytest.mark.parametrize(
    "words",
    [
        ("statement", 1, 99, 20251203),
        ("warnings", 2024, 20251345),
        ("day", 7),
        ("issue", 2**32, "CEA24", 1, "-d", "x"),
        ("holdings", 2**32),
        ("obligation", 1, 2024, 5, 20251331, "-d", "x"),
        ("cut", 1, 1, 5, "-d", "x"),
    ],
)
def test_a_wrong_word_ends_with_two_and_says_which(words: tuple[object, ...], tmp_path: Path) -> None:
    run("create", "--db", tmp_path / "r.db")
    assert "Invalid value" in run(*words, "--db", tmp_path / "r.db", code=2)


def test_what_is_no_registry_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, only text that is long enough to be looked at" * 20, encoding="utf-8")
    assert "not a database" in run("holdings", "--db", tmp_path / "text", code=3)
    assert "not in mysql" in run("migrate", "--db", "mysql://somewhere/r", code=3)
    run("create", "--db", tmp_path / "r.db")
    (tmp_path / "gbk.csv").write_bytes("account,asset,quantity,document\n1,CEA24,5,甲\n".encode("gbk"))
    assert "is not UTF-8" in run("import-issues", tmp_path / "gbk.csv", "--db", tmp_path / "r.db", code=1)


def test_verify_ends_with_one_when_a_row_was_tampered_with(tmp_path: Path) -> None:
    registry = small_world(f"sqlite:///{tmp_path}/r.db")
    with store.writing(registry.engine) as connection:
        connection.exec_driver_sql("DROP TRIGGER transfer_no_update")
        connection.exec_driver_sql("UPDATE transfer SET amount = amount + 1 WHERE kind = 17")
    registry.close()
    assert "was changed after it was posted" in run("verify", "--db", tmp_path / "r.db", code=1)
    of_cea = click.testing.CliRunner().invoke(cea(), ["verify", "registry", f"sqlite:///{tmp_path}/r.db"])
    assert of_cea.exit_code == 1 and "was changed after it was posted" in of_cea.output


def test_a_market_folder_names_its_registry(tmp_path: Path) -> None:
    assert database_url(str(tmp_path)) == f"sqlite:///{tmp_path}/registry.db"
    (tmp_path / "market.toml").write_text('registry = "postgresql+psycopg://cea@db/registry"\n', encoding="utf-8")
    assert database_url(str(tmp_path)) == "postgresql+psycopg://cea@db/registry"
