CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, amount INTEGER);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
INSERT INTO orders SELECT i, (i * 7919) % 211, (i * 104729) % 997 FROM n;
COMMIT;
CREATE INDEX by_customer ON orders (customer);
SELECT customer, sum(amount) AS total FROM orders GROUP BY customer ORDER BY total DESC LIMIT 5;
SELECT count(*) FROM orders a JOIN orders b ON a.customer = b.customer AND a.id < b.id WHERE a.customer < 10;
