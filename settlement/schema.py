"""The registry's tables (SQLAlchemy Core), for SQLite and PostgreSQL alike.

Balance rules stand here as constraints, besides in code: nobody's balance goes below zero, what is
surrendered or cancelled never comes back (R13.6), one deal's leg can be posted once. Acts, transfers,
serial moves, seals and deals are originals (R12.6): triggers refuse to change or delete them.
Money is fen, quantity tonnes, time ns UTC, a date YYYYMMDD; all BIGINT.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _number(name: str, **options: object) -> Column[int]:
    return Column(name, BigInteger, nullable=False, **options)  # type: ignore[arg-type]


# One row. Every writer locks it first, so that postings are in one order and seals form one chain.
head = Table(
    "head",
    metadata,
    Column("one", SmallInteger, CheckConstraint("one = 1", name="one_row"), primary_key=True, autoincrement=False),
    _number("batch"),
    Column("digest", LargeBinary, nullable=False),
    _number("next_ledger_account"),
)

asset = Table(
    "asset",
    metadata,
    Column("code", String(16), primary_key=True),
    Column(
        "kind", String(12), CheckConstraint("kind IN ('money', 'allowance', 'offset')", name="kind"), nullable=False
    ),
    _number("vintage"),  # compliance year of an allowance; 0 for money and offsets
    _number("next_serial"),
    CheckConstraint("next_serial >= 1", name="serial_positive"),
)

registry_account = Table(
    "registry_account",
    metadata,
    Column("account", BigInteger, primary_key=True, autoincrement=False),  # the exchange's account id
    Column("number", String(40), nullable=False, unique=True),  # real-name registry account
    Column("name", String(200), nullable=False),
    Column("identity", String(40), nullable=False, unique=True),  # unified social credit code
    Column("kind", String(12), nullable=False),
    Column("province", String(40), nullable=False),
    Column("bank_account", String(40), nullable=False),
    Column("state", String(12), CheckConstraint("state IN ('open', 'closed')", name="state"), nullable=False),
    _number("opened_ns"),
)

ledger_account = Table(
    "ledger_account",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    _number("owner"),  # exchange account id, or -1 for the system
    Column("asset", String(16), ForeignKey("asset.code"), nullable=False),
    Column("bucket", String(12), nullable=False),
    Column("unbounded", SmallInteger, nullable=False),
    Column("final", SmallInteger, nullable=False),
    _number("credits_posted"),
    _number("debits_posted"),
    _number("credits_pending"),
    _number("debits_pending"),
    UniqueConstraint("owner", "asset", "bucket"),
    CheckConstraint("unbounded = 1 OR credits_posted - debits_posted - debits_pending >= 0", name="not_below_zero"),
    CheckConstraint("final = 0 OR (debits_posted = 0 AND debits_pending = 0)", name="final_stays"),
    CheckConstraint(
        "credits_posted >= 0 AND debits_posted >= 0 AND credits_pending >= 0 AND debits_pending >= 0",
        name="sides_not_negative",
    ),
)

act = Table(
    "act",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("kind", SmallInteger, nullable=False),
    Column("document", String(80), nullable=False),
    Column("content", Text, nullable=False),  # JSON of what was asked for, keys sorted
    _number("account"),
    _number("time_ns"),
    _number("batch"),
    UniqueConstraint("kind", "document"),
    Index(None, "account", "kind"),
)

transfer = Table(
    "transfer",
    metadata,
    Column("act", BigInteger, primary_key=True, autoincrement=False),  # act.id or deal.deal_id
    Column("leg", SmallInteger, primary_key=True, autoincrement=False),
    _number("debit"),
    _number("credit"),
    _number("amount"),
    Column("kind", SmallInteger, nullable=False),
    Column("state", SmallInteger, CheckConstraint("state BETWEEN 0 AND 3", name="state"), nullable=False),
    Column("ref_act", BigInteger),
    Column("ref_leg", SmallInteger),
    _number("batch"),
    # On PostgreSQL a statement's rows are checked together: set_checks_ddl.
    ForeignKeyConstraint(["debit"], ["ledger_account.id"]).ddl_if(dialect="sqlite"),
    ForeignKeyConstraint(["credit"], ["ledger_account.id"]).ddl_if(dialect="sqlite"),
    CheckConstraint("amount > 0", name="amount_positive"),
    CheckConstraint("debit <> credit", name="two_accounts"),
    CheckConstraint("(state >= 2) = (ref_act IS NOT NULL)", name="refers_to_pending"),
    # Deals are found through deal.buyer and deal.seller: their transfers stay out of these indexes, which
    # keeps the posting of a day sequential.
    Index("ix_transfer_debit", "debit", sqlite_where=text("kind <> 1"), postgresql_where=text("kind <> 1")),
    Index("ix_transfer_credit", "credit", sqlite_where=text("kind <> 1"), postgresql_where=text("kind <> 1")),
    Index(
        "uq_transfer_resolved_once",
        "ref_act",
        "ref_leg",
        unique=True,
        sqlite_where=text("ref_act IS NOT NULL"),
        postgresql_where=text("ref_act IS NOT NULL"),
    ),
    sqlite_with_rowid=False,
)

serial_move = Table(
    "serial_move",
    metadata,
    Column("act", BigInteger, primary_key=True, autoincrement=False),
    Column("leg", SmallInteger, primary_key=True, autoincrement=False),
    Column("piece", BigInteger, primary_key=True, autoincrement=False),
    Column("asset", String(16), nullable=False),
    _number("first"),
    _number("last"),
    Column("span", SmallInteger, nullable=False),  # serials.span_class
    _number("batch"),
    CheckConstraint("first >= 1 AND last >= first", name="range"),
    Index(None, "asset", "span", "first"),
    sqlite_with_rowid=False,
)

holding_range = Table(
    "holding_range",
    metadata,
    Column("account", BigInteger, primary_key=True, autoincrement=False),
    Column("day", BigInteger, primary_key=True, autoincrement=False),  # of receipt: the oldest is given first
    Column("first", BigInteger, primary_key=True, autoincrement=False),
    _number("last"),
    Column("asset", String(16), nullable=False),
    ForeignKeyConstraint(["account"], ["ledger_account.id"]).ddl_if(dialect="sqlite"),
    CheckConstraint("first >= 1 AND last >= first", name="range"),
    Index("uq_holding_range_serial", "asset", "first", unique=True),
    sqlite_with_rowid=False,
)

seal = Table(
    "seal",
    metadata,
    Column("batch", BigInteger, primary_key=True, autoincrement=False),
    _number("time_ns"),
    _number("transfers"),
    _number("moves"),
    Column("digest", LargeBinary, nullable=False),  # chained: ledger.seal_digest
)

deal = Table(
    "deal",
    metadata,
    Column("deal_id", BigInteger, primary_key=True, autoincrement=False),
    _number("seq"),
    _number("time_ns"),
    _number("price_fen"),
    _number("quantity_t"),
    _number("amount_fen"),
    _number("buyer_fee_fen"),
    _number("seller_fee_fen"),
    _number("date"),
    _number("buyer"),
    _number("seller"),
    Column("instrument", String(16), nullable=False),
    Column("method", SmallInteger, nullable=False),
    CheckConstraint("amount_fen = price_fen * quantity_t", name="amount"),
    CheckConstraint("quantity_t > 0 AND price_fen > 0 AND buyer <> seller", name="terms"),
    Index(None, "buyer", "deal_id"),
    Index(None, "seller", "deal_id"),
)

# Of a deal's fees the exchange's part; the rest is the registry's (settlement.fees).
deal_fee = Table(
    "deal_fee",
    metadata,
    Column("deal_id", BigInteger, primary_key=True, autoincrement=False),  # made from deal's own rows
    _number("buyer_trading_fen"),
    _number("seller_trading_fen"),
    _number("batch"),
    CheckConstraint("buyer_trading_fen >= 0 AND seller_trading_fen >= 0", name="not_negative"),
)

settlement_day = Table(
    "settlement_day",
    metadata,
    Column("date", BigInteger, primary_key=True, autoincrement=False),
    Column("state", String(20), nullable=False),
    _number("deals"),
    _number("quantity_t"),
    _number("amount_fen"),
    _number("fees_fen"),
    Column("digest", LargeBinary, nullable=False),
    _number("settled_through"),  # the last deal id that was tried; a deal up to it is settled or in held_deal
    _number("time_ns"),
)

held_deal = Table(
    "held_deal",
    metadata,
    Column("deal_id", BigInteger, ForeignKey("deal.deal_id"), primary_key=True, autoincrement=False),
    Column("state", String(12), nullable=False),  # states.DealState
    Column("reason", Text, nullable=False),
    _number("time_ns"),
)

clearing = Table(
    "clearing",
    metadata,
    Column("date", BigInteger, primary_key=True, autoincrement=False),
    Column("account", BigInteger, primary_key=True, autoincrement=False),
    Column("instrument", String(16), primary_key=True),
    _number("deals"),
    _number("bought_t"),
    _number("bought_fen"),
    _number("sold_t"),
    _number("sold_fen"),
    _number("fees_fen"),
    sqlite_with_rowid=False,
)

obligation = Table(
    "obligation",
    metadata,
    Column("account", BigInteger, ForeignKey("registry_account.account"), primary_key=True, autoincrement=False),
    Column("year", BigInteger, primary_key=True, autoincrement=False),
    _number("emissions_t"),
    _number("deadline"),
    _number("surrendered_t"),
    _number("offset_t"),
    CheckConstraint("emissions_t >= 0 AND surrendered_t >= 0 AND offset_t >= 0", name="not_negative"),
    CheckConstraint("offset_t * 20 <= emissions_t", name="offset_at_most_5_percent"),  # R13.5
)

allocation_cut = Table(
    "allocation_cut",
    metadata,
    Column("account", BigInteger, ForeignKey("registry_account.account"), primary_key=True, autoincrement=False),
    Column("vintage", BigInteger, primary_key=True, autoincrement=False),
    _number("quantity_t"),
    _number("applied_t"),
    CheckConstraint("applied_t BETWEEN 0 AND quantity_t", name="applied"),
)

# What the bridge has to tell the other side, until it has answered (D24, and the remote registry).
outbox = Table(
    "outbox",
    metadata,
    Column("key", String(120), primary_key=True),  # idempotency key: the act's kind and document (80 at most)
    Column("target", String(12), nullable=False),
    Column("message", Text, nullable=False),  # JSON
    Column("state", String(12), nullable=False),  # outbox.OutboxState
    Column("answer", Text, nullable=False),
    _number("attempts"),
    _number("time_ns"),
    Index(None, "state"),
)

ORIGINALS: Final = ("act", "transfer", "serial_move", "seal", "deal", "deal_fee")


def immutability_ddl(dialect: str, tables: tuple[str, ...] = ORIGINALS) -> list[str]:
    """Statements that make the database itself refuse to change an original (R12.6)."""
    statements: list[str] = []
    if dialect == "sqlite":
        for table in tables:
            for event in ("UPDATE", "DELETE"):
                statements.append(
                    f"CREATE TRIGGER {table}_no_{event.lower()} BEFORE {event} ON {table} "
                    f"BEGIN SELECT RAISE(ABORT, '{table} is an original: rows are never changed'); END"
                )
        return statements
    statements.append(
        "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' is an original: rows are never changed'; END $$"
    )
    for table in tables:
        statements.append(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION refuse_change()"
        )
        statements.append(
            f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )
    return statements


def set_checks_ddl(dialect: str) -> list[str]:
    """PostgreSQL: every transfer and serial range is of a ledger account, checked once a statement with a join. A
    foreign key would look up each of a day's 800,000 references by itself, which cost more than all the rest."""
    if dialect == "sqlite":
        return []
    statements = []
    for table, columns in (("transfer", ("debit", "credit")), ("holding_range", ("account",))):
        missing = " OR ".join(
            f"EXISTS (SELECT 1 FROM new_rows n LEFT JOIN ledger_account a ON a.id = n.{column} WHERE a.id IS NULL)"
            for column in columns
        )
        statements.append(
            f"CREATE OR REPLACE FUNCTION {table}_accounts() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN IF {missing} THEN RAISE foreign_key_violation USING MESSAGE = "
            f"'{table}: a row names a ledger account that does not exist'; END IF; RETURN NULL; END $$"
        )
        for event in ("INSERT", "UPDATE")[: 1 if table in ORIGINALS else 2]:
            statements.append(
                f"CREATE TRIGGER {table}_{event.lower()}_accounts AFTER {event} ON {table} "
                f"REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION {table}_accounts()"
            )
    statements.append(
        "CREATE OR REPLACE FUNCTION ledger_account_stays() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'a ledger account stays and keeps its id: transfers refer to it'; END $$"
    )
    statements += [
        f"CREATE TRIGGER ledger_account_no_{event.split()[0].lower()} BEFORE {event} ON ledger_account "
        "FOR EACH STATEMENT EXECUTE FUNCTION ledger_account_stays()"
        for event in ("DELETE", "TRUNCATE", "UPDATE OF id")
    ]
    return statements
