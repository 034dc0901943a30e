CREATE TABLE act (
	id BIGINT NOT NULL, 
	kind SMALLINT NOT NULL, 
	document VARCHAR(80) NOT NULL, 
	content TEXT NOT NULL, 
	account BIGINT NOT NULL, 
	time_ns BIGINT NOT NULL, 
	batch BIGINT NOT NULL, 
	CONSTRAINT pk_act PRIMARY KEY (id), 
	CONSTRAINT uq_act_kind_document UNIQUE (kind, document)
);

CREATE INDEX ix_act_account_kind ON act (account, kind);

CREATE TABLE asset (
	code VARCHAR(16) NOT NULL, 
	kind VARCHAR(12) NOT NULL CONSTRAINT ck_asset_kind CHECK (kind IN ('money', 'allowance', 'offset')), 
	vintage BIGINT NOT NULL, 
	next_serial BIGINT NOT NULL, 
	CONSTRAINT pk_asset PRIMARY KEY (code), 
	CONSTRAINT ck_asset_serial_positive CHECK (next_serial >= 1)
);

CREATE TABLE clearing (
	date BIGINT NOT NULL, 
	account BIGINT NOT NULL, 
	instrument VARCHAR(16) NOT NULL, 
	deals BIGINT NOT NULL, 
	bought_t BIGINT NOT NULL, 
	bought_fen BIGINT NOT NULL, 
	sold_t BIGINT NOT NULL, 
	sold_fen BIGINT NOT NULL, 
	fees_fen BIGINT NOT NULL, 
	CONSTRAINT pk_clearing PRIMARY KEY (date, account, instrument)
)
 WITHOUT ROWID;

CREATE TABLE deal (
	deal_id BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	time_ns BIGINT NOT NULL, 
	price_fen BIGINT NOT NULL, 
	quantity_t BIGINT NOT NULL, 
	amount_fen BIGINT NOT NULL, 
	buyer_fee_fen BIGINT NOT NULL, 
	seller_fee_fen BIGINT NOT NULL, 
	date BIGINT NOT NULL, 
	buyer BIGINT NOT NULL, 
	seller BIGINT NOT NULL, 
	instrument VARCHAR(16) NOT NULL, 
	method SMALLINT NOT NULL, 
	CONSTRAINT pk_deal PRIMARY KEY (deal_id), 
	CONSTRAINT ck_deal_amount CHECK (amount_fen = price_fen * quantity_t), 
	CONSTRAINT ck_deal_terms CHECK (quantity_t > 0 AND price_fen > 0 AND buyer <> seller)
);

CREATE INDEX ix_deal_buyer_deal_id ON deal (buyer, deal_id);

CREATE INDEX ix_deal_seller_deal_id ON deal (seller, deal_id);

CREATE TABLE head (
	one SMALLINT NOT NULL CONSTRAINT ck_head_one_row CHECK (one = 1), 
	batch BIGINT NOT NULL, 
	digest BLOB NOT NULL, 
	next_ledger_account BIGINT NOT NULL, 
	CONSTRAINT pk_head PRIMARY KEY (one)
);

CREATE TABLE outbox (
	"key" VARCHAR(80) NOT NULL, 
	target VARCHAR(12) NOT NULL, 
	message TEXT NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	answer TEXT NOT NULL, 
	attempts BIGINT NOT NULL, 
	time_ns BIGINT NOT NULL, 
	CONSTRAINT pk_outbox PRIMARY KEY ("key")
);

CREATE INDEX ix_outbox_state ON outbox (state);

CREATE TABLE registry_account (
	account BIGINT NOT NULL, 
	number VARCHAR(40) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	identity VARCHAR(40) NOT NULL, 
	kind VARCHAR(12) NOT NULL, 
	province VARCHAR(40) NOT NULL, 
	bank_account VARCHAR(40) NOT NULL, 
	state VARCHAR(12) NOT NULL CONSTRAINT ck_registry_account_state CHECK (state IN ('open', 'closed')), 
	opened_ns BIGINT NOT NULL, 
	CONSTRAINT pk_registry_account PRIMARY KEY (account), 
	CONSTRAINT uq_registry_account_number UNIQUE (number), 
	CONSTRAINT uq_registry_account_identity UNIQUE (identity)
);

CREATE TABLE seal (
	batch BIGINT NOT NULL, 
	time_ns BIGINT NOT NULL, 
	transfers BIGINT NOT NULL, 
	moves BIGINT NOT NULL, 
	digest BLOB NOT NULL, 
	CONSTRAINT pk_seal PRIMARY KEY (batch)
);

CREATE TABLE serial_move (
	act BIGINT NOT NULL, 
	leg SMALLINT NOT NULL, 
	piece BIGINT NOT NULL, 
	asset VARCHAR(16) NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	span SMALLINT NOT NULL, 
	batch BIGINT NOT NULL, 
	CONSTRAINT pk_serial_move PRIMARY KEY (act, leg, piece), 
	CONSTRAINT ck_serial_move_range CHECK (first >= 1 AND last >= first)
)
 WITHOUT ROWID;

CREATE INDEX ix_serial_move_asset_span_first ON serial_move (asset, span, first);

CREATE TABLE settlement_day (
	date BIGINT NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	deals BIGINT NOT NULL, 
	quantity_t BIGINT NOT NULL, 
	amount_fen BIGINT NOT NULL, 
	fees_fen BIGINT NOT NULL, 
	digest BLOB NOT NULL, 
	settled_through BIGINT NOT NULL, 
	time_ns BIGINT NOT NULL, 
	CONSTRAINT pk_settlement_day PRIMARY KEY (date)
);

CREATE TABLE allocation_cut (
	account BIGINT NOT NULL, 
	vintage BIGINT NOT NULL, 
	quantity_t BIGINT NOT NULL, 
	applied_t BIGINT NOT NULL, 
	CONSTRAINT pk_allocation_cut PRIMARY KEY (account, vintage), 
	CONSTRAINT ck_allocation_cut_applied CHECK (applied_t BETWEEN 0 AND quantity_t), 
	CONSTRAINT fk_allocation_cut_account FOREIGN KEY(account) REFERENCES registry_account (account)
);

CREATE TABLE held_deal (
	deal_id BIGINT NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	reason TEXT NOT NULL, 
	time_ns BIGINT NOT NULL, 
	CONSTRAINT pk_held_deal PRIMARY KEY (deal_id), 
	CONSTRAINT fk_held_deal_deal_id FOREIGN KEY(deal_id) REFERENCES deal (deal_id)
);

CREATE TABLE ledger_account (
	id BIGINT NOT NULL, 
	owner BIGINT NOT NULL, 
	asset VARCHAR(16) NOT NULL, 
	bucket VARCHAR(12) NOT NULL, 
	unbounded SMALLINT NOT NULL, 
	final SMALLINT NOT NULL, 
	credits_posted BIGINT NOT NULL, 
	debits_posted BIGINT NOT NULL, 
	credits_pending BIGINT NOT NULL, 
	debits_pending BIGINT NOT NULL, 
	CONSTRAINT pk_ledger_account PRIMARY KEY (id), 
	CONSTRAINT uq_ledger_account_owner_asset_bucket UNIQUE (owner, asset, bucket), 
	CONSTRAINT ck_ledger_account_not_below_zero CHECK (unbounded = 1 OR credits_posted - debits_posted - debits_pending >= 0), 
	CONSTRAINT ck_ledger_account_final_stays CHECK (final = 0 OR (debits_posted = 0 AND debits_pending = 0)), 
	CONSTRAINT ck_ledger_account_sides_not_negative CHECK (credits_posted >= 0 AND debits_posted >= 0 AND credits_pending >= 0 AND debits_pending >= 0), 
	CONSTRAINT fk_ledger_account_asset FOREIGN KEY(asset) REFERENCES asset (code)
);

CREATE TABLE obligation (
	account BIGINT NOT NULL, 
	year BIGINT NOT NULL, 
	emissions_t BIGINT NOT NULL, 
	deadline BIGINT NOT NULL, 
	surrendered_t BIGINT NOT NULL, 
	offset_t BIGINT NOT NULL, 
	CONSTRAINT pk_obligation PRIMARY KEY (account, year), 
	CONSTRAINT ck_obligation_not_negative CHECK (emissions_t >= 0 AND surrendered_t >= 0 AND offset_t >= 0), 
	CONSTRAINT ck_obligation_offset_at_most_5_percent CHECK (offset_t * 20 <= emissions_t), 
	CONSTRAINT fk_obligation_account FOREIGN KEY(account) REFERENCES registry_account (account)
);

CREATE TABLE holding_range (
	account BIGINT NOT NULL, 
	day BIGINT NOT NULL, 
	first BIGINT NOT NULL, 
	last BIGINT NOT NULL, 
	asset VARCHAR(16) NOT NULL, 
	CONSTRAINT pk_holding_range PRIMARY KEY (account, day, first), 
	CONSTRAINT ck_holding_range_range CHECK (first >= 1 AND last >= first), 
	CONSTRAINT fk_holding_range_account FOREIGN KEY(account) REFERENCES ledger_account (id)
)
 WITHOUT ROWID;

CREATE UNIQUE INDEX uq_holding_range_serial ON holding_range (asset, first);

CREATE TABLE transfer (
	act BIGINT NOT NULL, 
	leg SMALLINT NOT NULL, 
	debit BIGINT NOT NULL, 
	credit BIGINT NOT NULL, 
	amount BIGINT NOT NULL, 
	kind SMALLINT NOT NULL, 
	state SMALLINT NOT NULL CONSTRAINT ck_transfer_state CHECK (state BETWEEN 0 AND 3), 
	ref_act BIGINT, 
	ref_leg SMALLINT, 
	batch BIGINT NOT NULL, 
	CONSTRAINT pk_transfer PRIMARY KEY (act, leg), 
	CONSTRAINT ck_transfer_amount_positive CHECK (amount > 0), 
	CONSTRAINT ck_transfer_two_accounts CHECK (debit <> credit), 
	CONSTRAINT ck_transfer_refers_to_pending CHECK ((state >= 2) = (ref_act IS NOT NULL)), 
	CONSTRAINT fk_transfer_debit FOREIGN KEY(debit) REFERENCES ledger_account (id), 
	CONSTRAINT fk_transfer_credit FOREIGN KEY(credit) REFERENCES ledger_account (id)
)
 WITHOUT ROWID;

CREATE INDEX ix_transfer_credit ON transfer (credit) WHERE kind <> 1;

CREATE INDEX ix_transfer_debit ON transfer (debit) WHERE kind <> 1;

CREATE UNIQUE INDEX uq_transfer_resolved_once ON transfer (ref_act, ref_leg) WHERE ref_act IS NOT NULL;

CREATE TRIGGER act_no_update BEFORE UPDATE ON act BEGIN SELECT RAISE(ABORT, 'act is an original: rows are never changed'); END;

CREATE TRIGGER act_no_delete BEFORE DELETE ON act BEGIN SELECT RAISE(ABORT, 'act is an original: rows are never changed'); END;

CREATE TRIGGER transfer_no_update BEFORE UPDATE ON transfer BEGIN SELECT RAISE(ABORT, 'transfer is an original: rows are never changed'); END;

CREATE TRIGGER transfer_no_delete BEFORE DELETE ON transfer BEGIN SELECT RAISE(ABORT, 'transfer is an original: rows are never changed'); END;

CREATE TRIGGER serial_move_no_update BEFORE UPDATE ON serial_move BEGIN SELECT RAISE(ABORT, 'serial_move is an original: rows are never changed'); END;

CREATE TRIGGER serial_move_no_delete BEFORE DELETE ON serial_move BEGIN SELECT RAISE(ABORT, 'serial_move is an original: rows are never changed'); END;

CREATE TRIGGER seal_no_update BEFORE UPDATE ON seal BEGIN SELECT RAISE(ABORT, 'seal is an original: rows are never changed'); END;

CREATE TRIGGER seal_no_delete BEFORE DELETE ON seal BEGIN SELECT RAISE(ABORT, 'seal is an original: rows are never changed'); END;

CREATE TRIGGER deal_no_update BEFORE UPDATE ON deal BEGIN SELECT RAISE(ABORT, 'deal is an original: rows are never changed'); END;

CREATE TRIGGER deal_no_delete BEFORE DELETE ON deal BEGIN SELECT RAISE(ABORT, 'deal is an original: rows are never changed'); END;

INSERT INTO head (one, batch, digest, next_ledger_account) VALUES (1, 0, x'3a7ad29ce45079e4676928743ca2831afbb473272d7f5f0d898a738339b449d6', 1);

INSERT INTO asset (code, kind, vintage, next_serial) VALUES ('CNY', 'money', 0, 1);

