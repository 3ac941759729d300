-- The task `shop-setup`: runs against the live server, once per data folder. Safe to run again.
CREATE OR REPLACE VIEW recent_orders AS
SELECT o.id,
       p.name AS product,
       o.quantity,
       o.total_cents,
       to_char(o.placed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"') AS placed_at
FROM orders o
JOIN products p ON p.id = o.product_id
ORDER BY o.id DESC;

CREATE INDEX IF NOT EXISTS orders_by_product ON orders (product_id);
