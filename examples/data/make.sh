#!/bin/sh
# Writes the example jobs, the same ones each time: sh examples/data/make.sh > examples/data/jobs.jsonl
awk 'function pick(n) { seed = seed * 16807 % 2147483647; return seed % n }
BEGIN {
    seed = 20250107
    split("ada alan barbara claude donald edsger frances grace john ken leslie margaret niklaus radia tony", name, " ")
    split("welcome invoice password-reset weekly-digest", template, " ")
    split("sales churn inventory payroll", report, " ")
    split("crm billing helpdesk", place, " ")
    for (i = 1; i <= 1250; i++) {
        more = ""
        trouble = i % 20 == 7 ? ",\"flaky\":true" : i % 100 == 53 ? ",\"broken\":true" : ""
        kind = pick(10)
        if (kind < 4) {
            task = "send-mail"
            payload = sprintf("\"to\":\"%s@example.com\",\"template\":\"%s\",\"message\":\"msg-%05d\"", name[1 + pick(15)], template[1 + pick(4)], i)
            if (payload ~ /password-reset/) more = ",\"priority\":-10"
        } else if (kind < 7) {
            task = "resize-image"
            payload = sprintf("\"source\":\"uploads/2025/%05d.jpg\",\"width\":%d,\"height\":%d", i, 320 * (1 + pick(6)), 240 * (1 + pick(6)))
        } else if (kind < 9) {
            task = "sync-account"
            account = sprintf("acct-%04d", i)
            target = place[1 + pick(3)]
            payload = sprintf("\"account\":\"%s\",\"system\":\"%s\"", account, target)
            more = sprintf(",\"key\":\"sync/%s/%s\"", target, account)
        } else {
            task = "export-report"
            account = sprintf("acct-%04d", i)
            what = report[1 + pick(4)]
            payload = sprintf("\"report\":\"%s\",\"account\":\"%s\",\"month\":\"2025-%02d\",\"format\":\"csv\"", what, account, 1 + pick(12))
            more = sprintf(",\"key\":\"export/%s/%s\",\"priority\":10", what, account)
        }
        if (trouble) more = more ",\"max_attempts\":" (trouble ~ /broken/ ? 2 : 3)
        printf "{\"task\":\"%s\",\"payload\":{%s%s}%s}\n", task, payload, trouble, more
    }
}'
