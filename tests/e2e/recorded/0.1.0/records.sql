BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE clock (
	id INTEGER NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "clock" VALUES(1,CAST('{"boot_id":"732eaa8f-3507-4c72-b418-9d4df3f6a8f8","wall":"2026-11-26T21:19:57.717179Z","since_boot":"PT28106.342323S"}' AS BLOB));
CREATE TABLE disks (
	id TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	name TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "disks" VALUES('e06ace452b724d9d80c8219d392e050b','unix:29999','old',3,CAST('{"id":"e06ace452b724d9d80c8219d392e050b","version":2,"owner":"unix:29999","name":"old","size_bytes":536870912,"created_at":"2026-11-26T21:20:00.193123Z","made":true,"holder":null,"successor":null,"snapshots":[{"id":"7c1314d6310747ab9dd5aebd38f516e4-1","taken_at":"2026-11-26T21:20:01.737439Z","verified_at":"2026-11-26T21:20:01.737439Z","used_bytes":65536,"listing":"listings/e06ace452b724d9d80c8219d392e050b/7c1314d6310747ab9dd5aebd38f516e4-1"}],"fault":""}' AS BLOB));
INSERT INTO "disks" VALUES('350c223dd83448149d1ac6aae6e23143','unix:29999','data',2,CAST('{"id":"350c223dd83448149d1ac6aae6e23143","version":1,"owner":"unix:29999","name":"data","size_bytes":536870912,"created_at":"2026-11-26T21:20:02.096585Z","made":true,"holder":"dbf2d0fc691346a9bbea810651dca37e","successor":null,"snapshots":[],"fault":""}' AS BLOB));
CREATE TABLE events (
	place INTEGER NOT NULL, 
	reservation_id TEXT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (place)
);
INSERT INTO "events" VALUES(1,'7c1314d6310747ab9dd5aebd38f516e4',CAST('{"reservation_id":"7c1314d6310747ab9dd5aebd38f516e4","at":"2026-11-26T21:20:00.192401Z","actor":"odc-recorded-a","kind":"asked","text":"asked for 2 x t4, 1 h, disk old","when":null}' AS BLOB));
INSERT INTO "events" VALUES(2,'7c1314d6310747ab9dd5aebd38f516e4',CAST('{"reservation_id":"7c1314d6310747ab9dd5aebd38f516e4","at":"2026-11-26T21:20:00.213345Z","actor":"odc","kind":"placed","text":"placed on t4-node-1 (2 GPUs); SSH answers at the latest","when":"2026-11-26T21:23:00.213345Z"}' AS BLOB));
INSERT INTO "events" VALUES(3,'7c1314d6310747ab9dd5aebd38f516e4',CAST('{"reservation_id":"7c1314d6310747ab9dd5aebd38f516e4","at":"2026-11-26T21:20:00.505536Z","actor":"odc","kind":"ready","text":"SSH answers, 0.3 s after the request; ends","when":"2026-11-26T22:20:00.505536Z"}' AS BLOB));
INSERT INTO "events" VALUES(4,'7c1314d6310747ab9dd5aebd38f516e4',CAST('{"reservation_id":"7c1314d6310747ab9dd5aebd38f516e4","at":"2026-11-26T21:20:01.072511Z","actor":"odc-recorded-a","kind":"cancelled","text":"asked to end it","when":null}' AS BLOB));
INSERT INTO "events" VALUES(5,'7c1314d6310747ab9dd5aebd38f516e4',CAST('{"reservation_id":"7c1314d6310747ab9dd5aebd38f516e4","at":"2026-11-26T21:20:01.689356Z","actor":"odc","kind":"stopped","text":"its box is gone and its GPUs are free","when":null}' AS BLOB));
INSERT INTO "events" VALUES(6,'7c1314d6310747ab9dd5aebd38f516e4',CAST('{"reservation_id":"7c1314d6310747ab9dd5aebd38f516e4","at":"2026-11-26T21:20:01.754594Z","actor":"odc","kind":"snapshot","text":"disk old is safe: snapshot verified","when":null}' AS BLOB));
INSERT INTO "events" VALUES(7,'7c1314d6310747ab9dd5aebd38f516e4',CAST('{"reservation_id":"7c1314d6310747ab9dd5aebd38f516e4","at":"2026-11-26T21:20:01.754594Z","actor":"odc","kind":"ended","text":"cancelled; nothing of it is left but its disk","when":null}' AS BLOB));
INSERT INTO "events" VALUES(8,'dbf2d0fc691346a9bbea810651dca37e',CAST('{"reservation_id":"dbf2d0fc691346a9bbea810651dca37e","at":"2026-11-26T21:20:02.096284Z","actor":"odc-recorded-a","kind":"asked","text":"asked for 8 x h100, 20 h, disk data","when":null}' AS BLOB));
INSERT INTO "events" VALUES(9,'dbf2d0fc691346a9bbea810651dca37e',CAST('{"reservation_id":"dbf2d0fc691346a9bbea810651dca37e","at":"2026-11-26T21:20:02.109885Z","actor":"odc","kind":"placed","text":"placed on h100-node-1 (8 GPUs); SSH answers at the latest","when":"2026-11-26T21:23:02.109885Z"}' AS BLOB));
INSERT INTO "events" VALUES(10,'dbf2d0fc691346a9bbea810651dca37e',CAST('{"reservation_id":"dbf2d0fc691346a9bbea810651dca37e","at":"2026-11-26T21:20:02.323875Z","actor":"odc","kind":"ready","text":"SSH answers, 0.2 s after the request; ends","when":"2026-11-27T17:20:02.323875Z"}' AS BLOB));
INSERT INTO "events" VALUES(11,'902032acc953403da63bedd56cf4e4eb',CAST('{"reservation_id":"902032acc953403da63bedd56cf4e4eb","at":"2026-11-26T21:20:02.968345Z","actor":"odc-recorded-a","kind":"asked","text":"asked for 1 x t4, 20 h, a temporary home","when":null}' AS BLOB));
INSERT INTO "events" VALUES(12,'902032acc953403da63bedd56cf4e4eb',CAST('{"reservation_id":"902032acc953403da63bedd56cf4e4eb","at":"2026-11-26T21:20:02.981513Z","actor":"odc","kind":"placed","text":"placed on t4-node-1 (1 GPU); SSH answers at the latest","when":"2026-11-26T21:23:02.981513Z"}' AS BLOB));
INSERT INTO "events" VALUES(13,'902032acc953403da63bedd56cf4e4eb',CAST('{"reservation_id":"902032acc953403da63bedd56cf4e4eb","at":"2026-11-26T21:20:03.176727Z","actor":"odc","kind":"ready","text":"SSH answers, 0.2 s after the request; ends","when":"2026-11-27T17:20:03.176727Z"}' AS BLOB));
INSERT INTO "events" VALUES(14,'68ae3ddf1d8f44809be13397914a523c',CAST('{"reservation_id":"68ae3ddf1d8f44809be13397914a523c","at":"2026-11-26T21:20:03.714846Z","actor":"odc-recorded-a","kind":"asked","text":"asked for 8 x h100, 2 h, a temporary home","when":null}' AS BLOB));
INSERT INTO "events" VALUES(15,'68ae3ddf1d8f44809be13397914a523c',CAST('{"reservation_id":"68ae3ddf1d8f44809be13397914a523c","at":"2026-11-26T21:20:03.740974Z","actor":"odc","kind":"promised","text":"SSH answers at the latest","when":"2026-11-27T17:25:02.323875Z"}' AS BLOB));
CREATE TABLE leases (
	name TEXT NOT NULL, 
	holder TEXT NOT NULL, 
	until_us BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('passes','vm:/var/tmp/odc-recorded/state',1795728018742673);
CREATE TABLE pools (
	name TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "pools" VALUES('t4',3);
INSERT INTO "pools" VALUES('h100',2);
CREATE TABLE requests (
	id TEXT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "requests" VALUES('945dabe033454455a529d7baebf665d2',CAST('{"id":"945dabe033454455a529d7baebf665d2","principal":"unix:29999","kind":"SetOwnKeys","digest":"d8585410b1c864bc7c3ae48db7bcb3b4655e87c4e269f9a343041eedcc7f7b45","received_at":"2026-11-26T21:20:00.043438Z","status":200,"answer":"e30="}' AS BLOB));
INSERT INTO "requests" VALUES('ef866f2d5cc14eea8bc25df1ad2d4714',CAST('{"id":"ef866f2d5cc14eea8bc25df1ad2d4714","principal":"unix:29999","kind":"Reserve","digest":"c0308afb6a25fd4f82e09a70a878c24c1ac1763e6289437c2dfa195165a8653e","received_at":"2026-11-26T21:20:00.191380Z","status":200,"answer":"eyJyZXNlcnZhdGlvbiI6IjdjMTMxNGQ2MzEwNzQ3YWI5ZGQ1YWViZDM4ZjUxNmU0In0="}' AS BLOB));
INSERT INTO "requests" VALUES('f16215927a8c4596a3e1a06208cd7dac',CAST('{"id":"f16215927a8c4596a3e1a06208cd7dac","principal":"unix:29999","kind":"Cancel","digest":"a59de64878e427b3c7822464c84bb4e72af7886141caf507721ce2986b4df440","received_at":"2026-11-26T21:20:01.072143Z","status":200,"answer":"eyJyZXNlcnZhdGlvbiI6IjdjMTMxNGQ2MzEwNzQ3YWI5ZGQ1YWViZDM4ZjUxNmU0In0="}' AS BLOB));
INSERT INTO "requests" VALUES('7ef1892b602f4cf39d5e94d92e60a51a',CAST('{"id":"7ef1892b602f4cf39d5e94d92e60a51a","principal":"unix:29999","kind":"Reserve","digest":"8f9a37695669165ae601a616348cd2ae07838ddb7605a77526a082f06d3ef20d","received_at":"2026-11-26T21:20:02.095022Z","status":200,"answer":"eyJyZXNlcnZhdGlvbiI6ImRiZjJkMGZjNjkxMzQ2YTliYmVhODEwNjUxZGNhMzdlIn0="}' AS BLOB));
INSERT INTO "requests" VALUES('ce9e338c6d9d400f8c98d3443c0b38cb',CAST('{"id":"ce9e338c6d9d400f8c98d3443c0b38cb","principal":"unix:29999","kind":"Reserve","digest":"2d336f9ed76df8671905dc6de67ed21bca746eda35f5a4a3e1f461d85108122e","received_at":"2026-11-26T21:20:02.967076Z","status":200,"answer":"eyJyZXNlcnZhdGlvbiI6IjkwMjAzMmFjYzk1MzQwM2RhNjNiZWRkNTZjZjRlNGViIn0="}' AS BLOB));
INSERT INTO "requests" VALUES('289bb0c14c50402a80380639fce2ff33',CAST('{"id":"289bb0c14c50402a80380639fce2ff33","principal":"unix:29999","kind":"Reserve","digest":"31c5f5b28a855d1aba50c1125e5279eebc90f2c22d8fee9272266a424435f507","received_at":"2026-11-26T21:20:03.714048Z","status":200,"answer":"eyJyZXNlcnZhdGlvbiI6IjY4YWUzZGRmMWQ4ZjQ0ODA5YmUxMzM5NzkxNGE1MjNjIn0="}' AS BLOB));
CREATE TABLE reservations (
	place INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	id TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	name TEXT NOT NULL, 
	held_name TEXT, 
	state TEXT NOT NULL, 
	live BOOLEAN NOT NULL, 
	version BIGINT NOT NULL, 
	body BLOB NOT NULL
);
INSERT INTO "reservations" VALUES(1,'7c1314d6310747ab9dd5aebd38f516e4','unix:29999','first',NULL,'ended',0,7,CAST('{"id":"7c1314d6310747ab9dd5aebd38f516e4","version":6,"order":1,"owner":"unix:29999","user":"odc-recorded-a","name":"first","spec":{"gpu_type":"t4","gpus":2,"units":2,"nodes":1,"hours":1.0,"disk":"old","image":""},"state":"ended","attempt":1,"disk_id":"e06ace452b724d9d80c8219d392e050b","host_key":{"private":"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACBOGBAI+zV/Vn47imx9zWzxw0jx4fc6zm3vSkN1fLHAuwAAAJBjeUsCY3lL\nAgAAAAtzc2gtZWQyNTUxOQAAACBOGBAI+zV/Vn47imx9zWzxw0jx4fc6zm3vSkN1fLHAuw\nAAAEClhuszFnfHc7qPTYgHh7XS0cSN7DnUjhc4ACFI9N6OL04YEAj7NX9WfjuKbH3NbPHD\nSPHh9zrObe9KQ3V8scC7AAAADG9kYy03YzEzMTRkNgE=\n-----END OPENSSH PRIVATE KEY-----\n","public":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIE4YEAj7NX9WfjuKbH3NbPHDSPHh9zrObe9KQ3V8scC7 odc-7c1314d6"},"slot":{"start":"2026-11-26T21:20:00.213345Z","nodes":["t4-node-1"],"estimate":false},"ready_by":"2026-11-26T21:23:00.213345Z","postponements":0,"places":[{"node":"t4-node-1","gpus":["SIM-t4-node-1-0","SIM-t4-node-1-1"],"ssh_port":33872,"uid":"037ff76cf23fb6ac3ef7f7b1c255b64b3ee426823e332efa909ec30862547322","address":"127.0.0.1"}],"phases":[{"name":"disk","seconds":0.029,"detail":"0.5 GB"},{"name":"box","seconds":0.224,"detail":""},{"name":"ssh","seconds":0.026,"detail":""},{"name":"detach","seconds":0.012,"detail":""},{"name":"snapshot","seconds":0.037,"detail":""},{"name":"listing","seconds":0.003,"detail":""}],"fault":null,"missing_since":null,"told":"a36f2e757f75dd58","created_at":"2026-11-26T21:20:00.192401Z","placed_at":"2026-11-26T21:20:00.213345Z","active_at":"2026-11-26T21:20:00.505536Z","expires_at":"2026-11-26T22:20:00.505536Z","ending_at":"2026-11-26T21:20:01.072511Z","ended_at":"2026-11-26T21:20:01.754594Z","ended_why":"cancelled","end_detail":"","requeue":false,"boxes_gone":true}' AS BLOB));
INSERT INTO "reservations" VALUES(2,'dbf2d0fc691346a9bbea810651dca37e','unix:29999','work','work','active',1,4,CAST('{"id":"dbf2d0fc691346a9bbea810651dca37e","version":3,"order":2,"owner":"unix:29999","user":"odc-recorded-a","name":"work","spec":{"gpu_type":"h100","gpus":8,"units":8,"nodes":1,"hours":20.0,"disk":"data","image":""},"state":"active","attempt":1,"disk_id":"350c223dd83448149d1ac6aae6e23143","host_key":{"private":"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACBhepBlIMGkpLC/f+cis2NZo8QCXdOcAZZwZt1DLm9Q6gAAAJByVSQ5clUk\nOQAAAAtzc2gtZWQyNTUxOQAAACBhepBlIMGkpLC/f+cis2NZo8QCXdOcAZZwZt1DLm9Q6g\nAAAEArYU+zCvG9m/G97awD4gYyqDCU0VKS2Vsd2VVr7GZUrWF6kGUgwaSksL9/5yKzY1mj\nxAJd05wBlnBm3UMub1DqAAAADG9kYy1kYmYyZDBmYwE=\n-----END OPENSSH PRIVATE KEY-----\n","public":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGF6kGUgwaSksL9/5yKzY1mjxAJd05wBlnBm3UMub1Dq odc-dbf2d0fc"},"slot":{"start":"2026-11-26T21:20:02.109885Z","nodes":["h100-node-1"],"estimate":false},"ready_by":"2026-11-26T21:23:02.109885Z","postponements":0,"places":[{"node":"h100-node-1","gpus":["SIM-h100-node-1-0","SIM-h100-node-1-1","SIM-h100-node-1-2","SIM-h100-node-1-3","SIM-h100-node-1-4","SIM-h100-node-1-5","SIM-h100-node-1-6","SIM-h100-node-1-7"],"ssh_port":33876,"uid":"c27693571f4b9dd090aeb23b94a720795e2ca488eb9a566547e7870d23e5719f","address":"127.0.0.1"}],"phases":[{"name":"disk","seconds":0.016,"detail":"0.5 GB"},{"name":"box","seconds":0.158,"detail":""},{"name":"ssh","seconds":0.027,"detail":""}],"fault":null,"missing_since":null,"told":"6cb6417fc4082e9b","created_at":"2026-11-26T21:20:02.096284Z","placed_at":"2026-11-26T21:20:02.109885Z","active_at":"2026-11-26T21:20:02.323875Z","expires_at":"2026-11-27T17:20:02.323875Z","ending_at":null,"ended_at":null,"ended_why":null,"end_detail":"","requeue":false,"boxes_gone":false}' AS BLOB));
INSERT INTO "reservations" VALUES(3,'902032acc953403da63bedd56cf4e4eb','unix:29999','scratch','scratch','active',1,4,CAST('{"id":"902032acc953403da63bedd56cf4e4eb","version":3,"order":3,"owner":"unix:29999","user":"odc-recorded-a","name":"scratch","spec":{"gpu_type":"t4","gpus":1,"units":1,"nodes":1,"hours":20.0,"disk":null,"image":""},"state":"active","attempt":1,"disk_id":null,"host_key":{"private":"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACBDJhH55Rn5Q8pGi2OvtY0RNnIBORmW/WKx3uP+fCp8sgAAAJD0Evcn9BL3\nJwAAAAtzc2gtZWQyNTUxOQAAACBDJhH55Rn5Q8pGi2OvtY0RNnIBORmW/WKx3uP+fCp8sg\nAAAEDEDFHpNzqW8rSzAfx1T41Yxcm+51BVB0Jbl9OteTaICEMmEfnlGflDykaLY6+1jRE2\ncgE5GZb9YrHe4/58KnyyAAAADG9kYy05MDIwMzJhYwE=\n-----END OPENSSH PRIVATE KEY-----\n","public":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEMmEfnlGflDykaLY6+1jRE2cgE5GZb9YrHe4/58Knyy odc-902032ac"},"slot":{"start":"2026-11-26T21:20:02.981513Z","nodes":["t4-node-1"],"estimate":false},"ready_by":"2026-11-26T21:23:02.981513Z","postponements":0,"places":[{"node":"t4-node-1","gpus":["SIM-t4-node-1-0"],"ssh_port":33877,"uid":"d1efe5b1f4f42ac69ac0daf3069841b8bd0d6e2e732f2b0814772cc13a0509b4","address":"127.0.0.1"}],"phases":[{"name":"box","seconds":0.158,"detail":""},{"name":"ssh","seconds":0.026,"detail":""}],"fault":null,"missing_since":null,"told":"29bb1a17efb822ff","created_at":"2026-11-26T21:20:02.968345Z","placed_at":"2026-11-26T21:20:02.981513Z","active_at":"2026-11-26T21:20:03.176727Z","expires_at":"2026-11-27T17:20:03.176727Z","ending_at":null,"ended_at":null,"ended_why":null,"end_detail":"","requeue":false,"boxes_gone":false}' AS BLOB));
INSERT INTO "reservations" VALUES(4,'68ae3ddf1d8f44809be13397914a523c','unix:29999','next','next','queued',1,2,CAST('{"id":"68ae3ddf1d8f44809be13397914a523c","version":1,"order":4,"owner":"unix:29999","user":"odc-recorded-a","name":"next","spec":{"gpu_type":"h100","gpus":8,"units":8,"nodes":1,"hours":2.0,"disk":null,"image":""},"state":"queued","attempt":0,"disk_id":null,"host_key":{"private":"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW\nQyNTUxOQAAACAboKSF0woniUaDAtNDScrRyJMiPtbvZTC96hTMQiPOXgAAAJCdOQpQnTkK\nUAAAAAtzc2gtZWQyNTUxOQAAACAboKSF0woniUaDAtNDScrRyJMiPtbvZTC96hTMQiPOXg\nAAAEC54lsXyzfs5SZhB+33B97kcadklYn2cGml6qlom2lP8xugpIXTCieJRoMC00NJytHI\nkyI+1u9lML3qFMxCI85eAAAADG9kYy02OGFlM2RkZgE=\n-----END OPENSSH PRIVATE KEY-----\n","public":"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBugpIXTCieJRoMC00NJytHIkyI+1u9lML3qFMxCI85e odc-68ae3ddf"},"slot":{"start":"2026-11-27T17:22:02.323875Z","nodes":["h100-node-1"],"estimate":false},"ready_by":"2026-11-27T17:25:02.323875Z","postponements":0,"places":[],"phases":[],"fault":null,"missing_since":null,"told":"","created_at":"2026-11-26T21:20:03.714846Z","placed_at":null,"active_at":null,"expires_at":null,"ending_at":null,"ended_at":null,"ended_why":null,"end_detail":"","requeue":false,"boxes_gone":false}' AS BLOB));
CREATE TABLE users (
	principal TEXT NOT NULL, 
	version BIGINT NOT NULL, 
	body BLOB NOT NULL, 
	PRIMARY KEY (principal)
);
INSERT INTO "users" VALUES('unix:29999',5,CAST('{"principal":"unix:29999","version":4,"name":"odc-recorded-a","github_user":"","github_id":0,"github_keys":[],"github_fetched_at":null,"github_fault":"","own_keys":["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAICQ/6YLTCtJ5HiDzm2ZyyF5c7/KHI4kBa5El1xr7Jj3Z odc-recorded-a@vm"]}' AS BLOB));
CREATE UNIQUE INDEX reservations_id ON reservations (id);
CREATE UNIQUE INDEX reservations_held_name ON reservations (owner, held_name);
CREATE INDEX reservations_owner ON reservations (owner, place);
CREATE INDEX reservations_live ON reservations (place) WHERE live = 1;
CREATE UNIQUE INDEX disks_name ON disks (owner, name);
CREATE INDEX events_reservation ON events (reservation_id, place);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('reservations',4);
COMMIT;
