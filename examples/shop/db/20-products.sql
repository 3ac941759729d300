INSERT INTO products (name, description, price_cents, stock) VALUES
    ('Brass lantern',   'Burns for eleven hours; smells of summer nights.',   3490, 12),
    ('Wool blanket',    'Woven in one piece, moss green, large enough for two.', 6900, 7),
    ('Field notebook',  'Stone paper: rain runs off, pencil stays.',          1250, 40),
    ('Enamel mug',      'Chips with dignity.',                                 890, 65),
    ('Folding compass', 'Points north, also after you fall on it.',           2275, 18);
