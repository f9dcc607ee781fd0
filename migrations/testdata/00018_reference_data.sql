-- A dictionary of an operator with values below values.
INSERT INTO prm.dictionaries (name, is_active, description, labels) VALUES ('TREE', true, 'Дерево', '{SYSTEM,READ_ONLY}');
INSERT INTO prm.dictionary_values (dictionary, code, description, is_active, parent_code) VALUES
    ('TREE', 'ROOT', 'Корінь', true, NULL),
    ('TREE', 'BRANCH', 'Гілка', true, 'ROOT'),
    ('TREE', 'LEAF', '', false, 'BRANCH');
