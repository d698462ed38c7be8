"""Which functions a query may call, by database: those that compute. Others read files, run programs, hold locks,
move sequences, change settings or end connections, which no read-only session keeps out.
"""

from __future__ import annotations

from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Words before a parenthesis that are no functions: operators, clauses and types of MySQL.
MYSQL_WORDS: Final = _names(
    """
    against all and any array as between bigint binary bit blob by case char character check collate columns cube
    current_date current_time current_timestamp dec decimal default describe desc distinct distinctrow div double else
    empty end enum error except exists explain fixed float for force from group having ignore in index inner int
    integer intersect interval is join json key lateral left like limit localtime localtimestamp longtext match
    mediumtext mod national natural nchar nested not null numeric of offset on or order over partition partitions path
    precision real recursive regexp replace right rlike rollup row rows select set show signed smallint some
    straight_join table text then time timestamp tinyint tinytext to union unsigned use using utc_date utc_time
    utc_timestamp value values varbinary varchar varying when where window with xor year zerofill
    """
)
#: Functions of MySQL and MariaDB that compute. Left out: load_file, get_lock and its like, *_wait, nextval, setval.
MYSQL: Final = _names(
    """
    abs acos add_months adddate addtime aes_decrypt aes_encrypt any_value ascii asin atan atan2 avg benchmark bin
    bin_to_uuid bit_and bit_count bit_length bit_or bit_xor can_access_column can_access_database can_access_table
    cast ceil ceiling char char_length character_length charset chr coalesce coercibility collation column_add
    column_check column_create column_delete column_exists column_get column_json column_list compress concat
    concat_operator_oracle concat_ws connection_id contains conv convert convert_tz cos cot count crc32 crc32c
    cume_dist curdate current_date current_role current_time current_timestamp current_user curtime database date
    date_add date_format date_sub datediff day dayname dayofmonth dayofweek dayofyear decode decode_histogram
    decode_oracle default degrees dense_rank des_decrypt des_encrypt dimension disjoint distance elt encode encrypt
    envelope equals exp export_set extract extractvalue field find_in_set first_value floor format format_bytes
    format_pico_time found_rows from_base64 from_days from_unixtime from_vector geomcollfromtext geometrycollection
    geometryfromtext geomfromtext get_format glength greatest group_concat grouping gtid_subset gtid_subtract hex hour
    icu_version if ifnull inet6_aton inet6_ntoa inet_aton inet_ntoa insert instr intersects is_free_lock is_ipv4
    is_ipv4_compat is_ipv4_mapped is_ipv6 is_used_lock is_uuid isnull json_array json_array_append json_array_insert
    json_array_intersect json_arrayagg json_compact json_contains json_contains_path json_depth json_detailed
    json_equals json_exists json_extract json_insert json_key_value json_keys json_length json_loose json_merge
    json_merge_patch json_merge_preserve json_normalize json_object json_object_filter_keys json_object_to_array
    json_objectagg json_overlaps json_pretty json_query json_quote json_remove json_replace json_schema_valid
    json_schema_validation_report json_search json_set json_storage_free json_storage_size json_table json_type
    json_unquote json_valid json_value kdf lag last_day last_insert_id last_value lastval lcase lead least left length
    lengthb linestring ln localtime localtimestamp locate log log10 log2 lower lpad lpad_oracle ltrim ltrim_oracle
    make_set makedate maketime max mbrcontains mbrcoveredby mbrcovers mbrdisjoint mbrequal mbrequals mbrintersects
    mbroverlaps mbrtouches mbrwithin md5 median microsecond mid min minute mod month monthname multilinestring
    multipoint multipolygon name_const natural_sort_key now nth_value ntile nullif nvl nvl2 oct octet_length
    old_password ord overlaps password percent_rank percentile_cont percentile_disc period_add period_diff pi point
    polygon position pow power ps_current_thread_id ps_thread_id quarter quote radians rand random_bytes rank
    regexp_instr regexp_like regexp_replace regexp_substr repeat replace replace_oracle reverse right roles_graphml
    round row_count row_number rpad rpad_oracle rtrim rtrim_oracle schema schemas sec_to_time second session_user
    sformat sha sha1 sha2 sign sin sleep soundex space sqrt srid statement_digest statement_digest_text std stddev
    stddev_pop stddev_samp str_to_date strcmp string_to_vector subdate substr substr_oracle substring substring_index
    subtime sum sys_guid sysdate system_user tan time time_format time_to_sec timediff timestamp timestampadd
    timestampdiff to_base64 to_char to_date to_days to_number to_seconds to_vector touches trim trim_oracle trunc
    truncate ucase uncompress uncompressed_length unhex unix_timestamp updatexml upper user utc_date utc_time
    utc_timestamp uuid uuid_short uuid_to_bin uuid_v4 uuid_v7 validate_password_strength values var_pop var_samp
    variance vec_distance vec_distance_cosine vec_distance_euclidean vec_fromtext vec_totext vector_dim
    vector_to_string version week weekday weekofyear weight_string within year yearweek
    """
)
#: Those of their functions that read files, hold locks, wait, or move sequences: never looked for among stored ones.
MYSQL_REFUSED: Final = _names(
    """
    get_lock load_file master_gtid_wait master_pos_wait nextval release_all_locks release_lock setval source_pos_wait
    sys_eval sys_exec sys_get sys_set wait_for_executed_gtid_set wait_until_sql_thread_after_gtids
    wsrep_sync_wait_upto_gtid
    """
)
#: Families of them: functions on geometries.
MYSQL_PREFIXES: Final = ("st_",)

#: Functions of PostgreSQL and its usual extensions that are VOLATILE, yet change nothing and reach for nothing: they
#: look at clocks, chance, sizes and states. What is STABLE or IMMUTABLE computes by its own declaration.
POSTGRESQL_VOLATILE: Final = _names(
    """
    bernoulli clock_timestamp current_query currval gen_random_bytes gen_random_uuid gen_salt lastval pg_blocking_pids
    pg_collation_actual_version pg_current_wal_flush_lsn pg_current_wal_insert_lsn pg_current_wal_lsn
    pg_database_collation_actual_version pg_database_size pg_indexes_size pg_is_in_recovery pg_is_wal_replay_paused
    pg_jit_available pg_last_wal_receive_lsn pg_last_wal_replay_lsn pg_last_xact_replay_timestamp pg_lock_status
    pg_notification_queue_usage pg_partition_ancestors pg_partition_tree pg_relation_size
    pg_safe_snapshot_blocking_pids pg_sequence_last_value pg_sleep pg_sleep_for pg_sleep_until
    pg_stat_get_xact_blocks_fetched pg_stat_get_xact_blocks_hit pg_stat_get_xact_function_calls
    pg_stat_get_xact_numscans pg_stat_get_xact_tuples_deleted pg_stat_get_xact_tuples_fetched
    pg_stat_get_xact_tuples_hot_updated pg_stat_get_xact_tuples_inserted pg_stat_get_xact_tuples_returned
    pg_stat_get_xact_tuples_updated pg_stat_have_stats pg_table_size pg_tablespace_size pg_total_relation_size
    pg_xact_commit_timestamp pg_xact_status random random_normal setseed system system_rows system_time timeofday
    txid_status uuid_generate_v1 uuid_generate_v1mc uuid_generate_v4 uuidv4 uuidv7
    """
)
#: Always refused, however they are declared. An extension may declare what it likes.
POSTGRESQL_REFUSED: Final = (
    r"^(dblink.*|lo_.*|loread|lowrite|pg_read_.*|pg_ls_.*|pg_stat_file|pg_file_.*|pg_logdir_ls|pg_advisory_.*"
    r"|pg_try_advisory_.*|pg_terminate_backend|pg_cancel_backend|pg_reload_conf|pg_rotate_logfile.*|pg_switch_wal"
    r"|pg_stat_reset.*|pg_notify|pg_logical_.*|pg_replication_.*|set_config|nextval|setval|query_to_xml.*"
    r"|cursor_to_xml.*|ts_stat|crosstab.*|connectby|xpath_table|http.*|postgres_fdw_.*)$"
)

#: Functions of SQLite that compute. Left out: load_extension, fts3_tokenizer (an address of memory), what shells add.
SQLITE: Final = _names(
    """
    -> ->> abs acos acosh asin asinh atan atan2 atanh avg bm25 ceil ceiling changes char coalesce concat concat_ws cos
    cosh count cume_dist current_date current_time current_timestamp date datetime degrees dense_rank exp first_value
    floor format geopoly_area geopoly_bbox geopoly_blob geopoly_ccw geopoly_contains_point geopoly_json
    geopoly_overlap geopoly_regular geopoly_svg geopoly_within geopoly_xform glob group_concat hex highlight if ifnull
    iif instr json json_array json_array_insert json_array_length json_each json_error_position json_extract
    json_group_array json_group_object json_insert json_object json_patch json_pretty json_quote json_remove
    json_replace json_set json_tree json_type json_valid jsonb jsonb_array jsonb_array_insert jsonb_extract
    jsonb_group_array jsonb_group_object jsonb_insert jsonb_object jsonb_patch jsonb_remove jsonb_replace jsonb_set
    julianday lag last_insert_rowid last_value lead length like likelihood likely ln log log10 log2 lower ltrim match
    matchinfo max median min mod nth_value ntile nullif octet_length offsets percent_rank percentile percentile_cont
    percentile_disc pi pow power printf quote radians random randomblob rank replace round row_number rtrim sign sin
    sinh snippet soundex sqlite_compileoption_get sqlite_compileoption_used sqlite_source_id sqlite_version sqrt
    strftime string_agg substr substring subtype sum tan tanh time timediff total total_changes trim trunc typeof
    unhex unicode unistr unistr_quote unixepoch unlikely upper zeroblob
    """
)
#: What may be asked about the tables of a file.
SQLITE_PRAGMAS: Final = frozenset(
    ("table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo", "foreign_key_list")
)
