import HoldfastProtocol
import NIOCore

extension HerdReport {
    /// One JSON object of a run: its settings, and the reports in their order. Times in ms.
    public static func json(_ reports: [HerdReport], settings: HerdSettings) -> ByteBuffer {
        JSONWriter.object { json in
            json.member("event", settings.event.rawValue)
            json.member("clients", settings.clients)
            json.member("outage", settings.outage)
            json.member("accept_rate", number: settings.acceptRate)
            json.member("overload", settings.overload.rawValue)
            json.member("seed", String(settings.seed))
            json.member("knocks_max", settings.knocksMax)
            json.member("back_max", settings.backMax)
            json.member(
                "reports",
                array: { json in
                    for report in reports { json.element(object: report.write) }
                })
        }
    }

    private func write(_ json: inout JSONWriter) {
        json.member("name", self.name)
        json.member("formula", self.formula)
        json.member("source", self.source)
        json.member("attempts", self.attempts)
        json.member("attempts_peak", self.attemptsPeak)
        json.member("attempts_p99", self.attemptsP99)
        json.member("knocks_peak", self.knocksPeak)
        json.member("knocks_share", number: self.knocksShare)
        self.write(self.backHalf, as: "back_50", to: &json)
        self.write(self.backMost, as: "back_95", to: &json)
        self.write(self.backAll, as: "back_100", to: &json)
        json.member("lost", self.lost)
        json.member("keeps_promise", self.keepsPromise)
        json.member(
            "series",
            array: { json in
                for count in self.series { json.element(number: Double(count)) }
            })
    }

    private func write(_ value: Int?, as name: String, to json: inout JSONWriter) {
        guard let value else { return json.memberNull(name) }
        json.member(name, value)
    }
}
