CREATE CONSTRAINT thing IF NOT EXISTS FOR (t:Thing) REQUIRE t.name IS UNIQUE;
CREATE (:Thing {name: 'first'});
