// Who buys what together. Runs once; the task's sentinel lies beside the graph.
CREATE CONSTRAINT product IF NOT EXISTS FOR (p:Product) REQUIRE p.id IS UNIQUE;

MERGE (lantern:Product {id: 1}) SET lantern.name = 'Brass lantern';
MERGE (blanket:Product {id: 2}) SET blanket.name = 'Wool blanket';
MATCH (lantern:Product {id: 1}), (blanket:Product {id: 2})
MERGE (lantern)-[:BOUGHT_WITH {times: 3}]->(blanket);
