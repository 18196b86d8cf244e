#!/bin/sh
# A command for `kvjob run --exec`: does a job in name only. The payload comes as JSON on stdin, the rest in KVJOB_*.
# A payload with "flaky":true fails at its first attempt, one with "broken":true at each. No other process is started.

payload=
while IFS= read -r line || [ -n "$line" ]; do payload="$payload$line"; done

# fail STATUS MESSAGE
fail() {
    echo "${KVJOB_TASK:-?}: $2" >&2
    exit "$1"
}

# The value of a string or number of the payload.
field() {
    case $payload in *"\"$1\":"*) ;; *) fail 65 "the payload has no \"$1\"" ;; esac
    value=${payload#*\""$1"\":}
    value=${value# }
    case $value in
    \"*) value=${value#\"} value=${value%%\"*} ;;
    *) value=${value%%[,\} ]*} ;;
    esac
}

case $payload in
*'"broken":true'* | *'"broken": true'*) fate=broken ;;
*'"flaky":true'* | *'"flaky": true'*) if [ "${KVJOB_ATTEMPT:-1}" -le 1 ]; then fate=flaky; else fate=fine; fi ;;
*) fate=fine ;;
esac

# 75 and 65 are EX_TEMPFAIL and EX_DATAERR of sysexits.h.
case ${KVJOB_TASK:-}/$fate in
send-mail/flaky) fail 75 '451 4.3.0 mailbox temporarily unavailable' ;;
send-mail/broken) fail 65 '550 5.1.1 no such user here' ;;
send-mail/*) field to; to=$value; field template; echo "sent $value to $to" ;;
resize-image/flaky) fail 75 'timed out after 10 s while reading the source' ;;
resize-image/broken) fail 65 'not a JPEG file: starts with 89 50 4e 47' ;;
resize-image/*) field source; source=$value; field width; width=$value; field height; echo "resized $source to ${width}x$value" ;;
export-report/flaky) fail 75 'database is locked' ;;
export-report/broken) fail 65 'no column "region" in this report' ;;
export-report/*) field report; report=$value; field account; account=$value; field month; echo "exported $report of $account for $value" ;;
sync-account/flaky) fail 75 'HTTP 503: service unavailable' ;;
sync-account/broken) fail 65 'HTTP 410: the account was closed' ;;
sync-account/*) field account; account=$value; field system; echo "synced $account with $value" ;;
*) fail 64 'no such task' ;;
esac
