-- What wrk sends, and the figures it prints at the end as one line of JSON.
-- Arguments: a file with the request's body, or nothing for a GET.
function init(arguments)
    if arguments[1] then
        local file = assert(io.open(arguments[1], "rb"))
        wrk.method, wrk.body = "POST", file:read("*a")
        wrk.headers["Content-Type"] = "application/json"
        file:close()
    end
end

function done(summary, latency)
    local errors = summary.errors
    io.write(("{\"requests\":%d,\"duration_us\":%d,\"p50_us\":%d,\"p99_us\":%d,\"errors\":%d}\n"):format(
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
