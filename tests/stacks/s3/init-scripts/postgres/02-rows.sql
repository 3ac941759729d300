INSERT INTO posts (title) VALUES ('written by init');
