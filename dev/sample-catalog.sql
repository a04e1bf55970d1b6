-- The catalog of `milvusdm sample` as a 1.x server keeps it in MySQL, written by dev/sample_catalog.py
CREATE TABLE Tables (id BIGINT PRIMARY KEY AUTO_INCREMENT, table_id VARCHAR(255) UNIQUE NOT NULL, state INT NOT NULL, dimension SMALLINT NOT NULL, created_on BIGINT NOT NULL, flag BIGINT DEFAULT 0 NOT NULL, index_file_size BIGINT DEFAULT 1024 NOT NULL, engine_type INT DEFAULT 1 NOT NULL, index_params VARCHAR(512) NOT NULL, metric_type INT DEFAULT 1 NOT NULL, owner_table VARCHAR(255) NOT NULL, partition_tag VARCHAR(255) NOT NULL, version VARCHAR(64) DEFAULT '1.1.1', flush_lsn BIGINT DEFAULT 0 NOT NULL);
INSERT INTO Tables VALUES (1, 'articles', 0, 64, 0, 2, 1073741824, 2, '{"nlist":128}', 1, '', '', '1.1.1', 0);
INSERT INTO Tables VALUES (2, 'articles_p1', 0, 64, 0, 2, 1073741824, 2, '{"nlist":128}', 1, 'articles', '2021-03 news', '1.1.1', 0);
INSERT INTO Tables VALUES (3, 'articles_p2', 0, 64, 0, 2, 1073741824, 2, '{"nlist":128}', 1, 'articles', 'empty', '1.1.1', 0);
INSERT INTO Tables VALUES (4, 'products', 0, 32, 0, 2, 1073741824, 1, '{}', 2, '', '', '1.1.1', 0);
CREATE TABLE TableFiles (id BIGINT PRIMARY KEY AUTO_INCREMENT, table_id VARCHAR(255) NOT NULL, segment_id VARCHAR(255) NOT NULL, engine_type INT DEFAULT 1 NOT NULL, file_id VARCHAR(255) NOT NULL, file_type INT DEFAULT 0 NOT NULL, file_size BIGINT DEFAULT 0 NOT NULL, row_count BIGINT DEFAULT 0 NOT NULL, updated_time BIGINT NOT NULL, created_on BIGINT NOT NULL, date INT DEFAULT -1 NOT NULL, flush_lsn BIGINT DEFAULT 0 NOT NULL);
INSERT INTO TableFiles VALUES (1, 'articles', '1600000000000000001', 1, '1600000000000000001', 3, 512000, 1997, 0, 0, 0, 0);
INSERT INTO TableFiles VALUES (2, 'articles', '1600000000000000001', 1, '1600000000000000001', 7, 512000, 1997, 0, 0, 0, 0);
INSERT INTO TableFiles VALUES (3, 'articles', '1600000000000000002', 1, '1600000000000000002', 2, 128000, 500, 0, 0, 0, 0);
INSERT INTO TableFiles VALUES (4, 'articles_p1', '1600000000000000003', 1, '1600000000000000003', 1, 102400, 399, 0, 0, 0, 0);
INSERT INTO TableFiles VALUES (5, 'products', '1600000000000000004', 1, '1600000000000000004', 1, 76800, 599, 0, 0, 0, 0);
CREATE TABLE Fields (collection_id VARCHAR(255) NOT NULL, field_name VARCHAR(255) NOT NULL, field_type INT DEFAULT 0 NOT NULL, field_params VARCHAR(255) NOT NULL);
CREATE TABLE Environment (global_lsn BIGINT DEFAULT 0 NOT NULL);
