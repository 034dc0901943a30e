CREATE TABLE deal_fee (
	deal_id BIGINT NOT NULL, 
	buyer_trading_fen BIGINT NOT NULL, 
	seller_trading_fen BIGINT NOT NULL, 
	batch BIGINT NOT NULL, 
	CONSTRAINT pk_deal_fee PRIMARY KEY (deal_id), 
	CONSTRAINT ck_deal_fee_not_negative CHECK (buyer_trading_fen >= 0 AND seller_trading_fen >= 0)
);

CREATE TRIGGER deal_fee_no_update BEFORE UPDATE ON deal_fee BEGIN SELECT RAISE(ABORT, 'deal_fee is an original: rows are never changed'); END;

CREATE TRIGGER deal_fee_no_delete BEFORE DELETE ON deal_fee BEGIN SELECT RAISE(ABORT, 'deal_fee is an original: rows are never changed'); END;

ALTER TABLE outbox RENAME TO outbox_old;

CREATE TABLE outbox (
	"key" VARCHAR(120) NOT NULL, 
	target VARCHAR(12) NOT NULL, 
	message TEXT NOT NULL, 
	state VARCHAR(12) NOT NULL, 
	answer TEXT NOT NULL, 
	attempts BIGINT NOT NULL, 
	time_ns BIGINT NOT NULL, 
	CONSTRAINT pk_outbox PRIMARY KEY ("key")
);

INSERT INTO outbox SELECT * FROM outbox_old;

DROP TABLE outbox_old;

CREATE INDEX ix_outbox_state ON outbox (state);

