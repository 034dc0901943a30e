CREATE TABLE deal_fee (
	deal_id BIGINT NOT NULL, 
	buyer_trading_fen BIGINT NOT NULL, 
	seller_trading_fen BIGINT NOT NULL, 
	batch BIGINT NOT NULL, 
	CONSTRAINT pk_deal_fee PRIMARY KEY (deal_id), 
	CONSTRAINT ck_deal_fee_not_negative CHECK (buyer_trading_fen >= 0 AND seller_trading_fen >= 0)
);

CREATE TRIGGER deal_fee_no_change BEFORE UPDATE OR DELETE ON deal_fee FOR EACH ROW EXECUTE FUNCTION refuse_change();

CREATE TRIGGER deal_fee_no_truncate BEFORE TRUNCATE ON deal_fee FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

ALTER TABLE outbox ALTER COLUMN key TYPE VARCHAR(120);

ALTER TABLE transfer DROP CONSTRAINT fk_transfer_debit;

ALTER TABLE transfer DROP CONSTRAINT fk_transfer_credit;

ALTER TABLE holding_range DROP CONSTRAINT fk_holding_range_account;

CREATE OR REPLACE FUNCTION transfer_accounts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT 1 FROM new_rows n LEFT JOIN ledger_account a ON a.id = n.debit WHERE a.id IS NULL) OR EXISTS (SELECT 1 FROM new_rows n LEFT JOIN ledger_account a ON a.id = n.credit WHERE a.id IS NULL) THEN RAISE foreign_key_violation USING MESSAGE = 'transfer: a row names a ledger account that does not exist'; END IF; RETURN NULL; END $$;

CREATE TRIGGER transfer_insert_accounts AFTER INSERT ON transfer REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION transfer_accounts();

CREATE OR REPLACE FUNCTION holding_range_accounts() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF EXISTS (SELECT 1 FROM new_rows n LEFT JOIN ledger_account a ON a.id = n.account WHERE a.id IS NULL) THEN RAISE foreign_key_violation USING MESSAGE = 'holding_range: a row names a ledger account that does not exist'; END IF; RETURN NULL; END $$;

CREATE TRIGGER holding_range_insert_accounts AFTER INSERT ON holding_range REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION holding_range_accounts();

CREATE TRIGGER holding_range_update_accounts AFTER UPDATE ON holding_range REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION holding_range_accounts();

CREATE OR REPLACE FUNCTION ledger_account_stays() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'a ledger account stays and keeps its id: transfers refer to it'; END $$;

CREATE TRIGGER ledger_account_no_delete BEFORE DELETE ON ledger_account FOR EACH STATEMENT EXECUTE FUNCTION ledger_account_stays();

CREATE TRIGGER ledger_account_no_truncate BEFORE TRUNCATE ON ledger_account FOR EACH STATEMENT EXECUTE FUNCTION ledger_account_stays();

CREATE TRIGGER ledger_account_no_update BEFORE UPDATE OF id ON ledger_account FOR EACH STATEMENT EXECUTE FUNCTION ledger_account_stays();

