import Testing

@testable import HoldfastCore

extension CallbackRetry.Outcome {
    fileprivate static func answered(_ status: Int, isJSON: Bool = true, limit: String? = nil) -> Self {
        .answered(status: status, isJSON: isJSON, rateLimit: limit)
    }
}

@Suite struct CallbackRetryTests {
    /// After its first try has begun.
    private func started(tries: Int = 3, wait: Double = 3) -> CallbackRetry {
        var retry = CallbackRetry(CallbackRetry.Settings(tries: tries, wait: wait))
        #expect(retry.start() == true)
        return retry
    }

    @Test func defaultsAreTheSpecificationsOwn() {
        let settings = CallbackRetry.Settings()
        #expect(settings == CallbackRetry.Settings(tries: 3, wait: 3, rateLimitHeaders: ["X-Rate-Limit-Reset"]))
    }

    @Test(arguments: [200, 201, 202, 226, 299])
    func jsonIsTaken(_ status: Int) {
        var retry = self.started()
        #expect(retry.finished(.answered(status)) == .take)
    }

    /// Also after other outcomes, and with the last try.
    @Test func theLastTryCounts() {
        var retry = self.started()
        #expect(retry.finished(.failed) == .retry(after: .seconds(3)))
        #expect(retry.finished(.answered(500)) == .retry(after: .seconds(3)))
        #expect(retry.finished(.answered(200)) == .take)
    }

    @Test(
        arguments: [
            .failed, .answered(200, isJSON: false), .answered(204, isJSON: false), .answered(408), .answered(429),
            .answered(500), .answered(502, isJSON: false), .answered(503), .answered(599),
        ] as [CallbackRetry.Outcome])
    func isTriedAgain(_ outcome: CallbackRetry.Outcome) {
        var retry = self.started(wait: 0.25)
        #expect(retry.finished(outcome) == .retry(after: .seconds(0.25)))
        #expect(retry.finished(outcome) == .retry(after: .seconds(0.25)))
        #expect(retry.finished(outcome) == .giveUp)
    }

    /// Whatever the body: an error of the service's own comes with 200.
    @Test(
        arguments: [
            100, 199, 300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 405, 407, 409, 410, 413, 422, 428, 430,
            451, 499,
        ],
        [true, false])
    func isNotTriedAgain(_ status: Int, _ isJSON: Bool) {
        var retry = self.started()
        #expect(retry.finished(.answered(status, isJSON: isJSON)) == .giveUp)
    }

    @Test(arguments: [0, -1, .min + 1])
    func withoutTriesThereIsNone(_ tries: Int) {
        var retry = CallbackRetry(CallbackRetry.Settings(tries: tries))
        #expect(retry.start() == false)
    }

    @Test(arguments: 1...5)
    func thereAreAsManyTriesAsConfigured(_ tries: Int) {
        var retry = self.started(tries: tries)
        for _ in 1..<tries { #expect(retry.finished(.failed) == .retry(after: .seconds(3))) }
        #expect(retry.finished(.failed) == .giveUp)
    }

    @Test(
        arguments: [
            ("0", 0), ("0.1", 0.1), ("17", 17), (" 17 ", 17), ("3600", 3600), ("1e2", 100), ("+5", 5), ("-0", 0),
            ("3600.5", 3600), ("100000", 3600), ("1e999", 3600), ("inf", 3600), ("Infinity", 3600),
            ("-1", 3), ("-inf", 3), ("nan", 3), ("-1e999", 3),
            ("Wed, 21 Oct 2026 07:28:00 GMT", 3), ("soon", 3), ("1,5", 3), ("10s", 3), ("", 3), (" ", 3), (nil, 3),
        ] as [(String?, Double)])
    func rateLimits(_ text: String?, _ seconds: Double) {
        var retry = self.started()
        #expect(retry.finished(.answered(429, limit: text)) == .retry(after: .seconds(seconds)))
    }

    /// Neither is a number to the service that wrote it.
    @Test(arguments: ["0x10", "1 0", "0x1p3"])
    func swiftsOwnNumbersAreNone(_ text: String) {
        var retry = self.started()
        #expect(retry.finished(.answered(429, limit: text)) == .retry(after: .seconds(3)))
    }

    /// 429 with or without JSON, which nobody looks at.
    @Test(arguments: [true, false])
    func theBodyOfA429IsIgnored(_ isJSON: Bool) {
        var retry = self.started()
        #expect(retry.finished(.answered(429, isJSON: isJSON, limit: "7")) == .retry(after: .seconds(7)))
    }

    @Test func a429OnTheLastTryFailsAtOnce() {
        var retry = self.started(tries: 1)
        #expect(retry.finished(.answered(429, limit: "7")) == .giveUp)
    }

    @Test func onlyA429ReadsTheHeader() {
        var retry = self.started()
        #expect(retry.finished(.answered(503, limit: "7")) == .retry(after: .seconds(3)))
    }

    @Test func aConnectionErrorLeavesTheWait() {
        var retry = self.started(tries: 10)
        #expect(retry.finished(.answered(429, limit: "60")) == .retry(after: .seconds(60)))
        #expect(retry.finished(.failed) == .retry(after: .seconds(60)))
        #expect(retry.finished(.failed) == .retry(after: .seconds(60)))
        #expect(retry.finished(.answered(429, limit: "5")) == .retry(after: .seconds(5)))
        #expect(retry.finished(.failed) == .retry(after: .seconds(5)))
        #expect(retry.finished(.answered(500)) == .retry(after: .seconds(3)))
        #expect(retry.finished(.failed) == .retry(after: .seconds(3)))
    }

    @Test(arguments: [.answered(500), .answered(408), .answered(200, isJSON: false)] as [CallbackRetry.Outcome])
    func anyOtherAnswerResetsTheWait(_ outcome: CallbackRetry.Outcome) {
        var retry = self.started()
        #expect(retry.finished(.answered(429, limit: "60")) == .retry(after: .seconds(60)))
        #expect(retry.finished(outcome) == .retry(after: .seconds(3)))
    }

    /// A 429 that says nothing does not keep what an earlier one said.
    @Test func aBareA429ResetsTheWait() {
        var retry = self.started()
        #expect(retry.finished(.answered(429, limit: "60")) == .retry(after: .seconds(60)))
        #expect(retry.finished(.answered(429)) == .retry(after: .seconds(3)))
    }
}
