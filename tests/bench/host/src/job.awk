# The access-log job for mawk: one JSON object per kept line. Splits at quotes, which is the fastest way in awk, and
# does no more than the output needs: an escaped quote inside a field comes out wrong, and the time stays as it is.
BEGIN { FS = "\"" }
{
    split($2, request, " ")
    if (index(request[2], "/images/") == 1) next
    split($1, head, " ")
    split($3, answer, " ")
    print "{\"client\":\"" head[1] "\",\"ident\":" text(head[2]) ",\"user\":" text(head[3]) \
        ",\"time\":\"" substr(head[4], 2) "\",\"method\":\"" request[1] "\",\"path\":\"" request[2] \
        "\",\"protocol\":\"" request[3] "\",\"status\":" answer[1] ",\"bytes\":" number(answer[2]) \
        ",\"referrer\":" text($4) ",\"agent\":" text($6) \
        ",\"class\":\"" ($6 ~ /bot|spider/ ? "bot" : "human") "\"}"
}
function text(value) { return value == "-" ? "null" : "\"" value "\"" }
function number(value) { return value == "-" ? "null" : value }
