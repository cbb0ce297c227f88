import Testing

@testable import HoldfastServer

@Suite struct ServiceURLTests {
    @Test(arguments: [
        ("http://host", "http://host/"), ("http://host/path", "http://host/path"),
        ("https://host:8443/a?b=c#d", "https://host:8443/a?b=c"), ("http://[::1]:80/x", "http://[::1]:80/x"),
        ("http://host?q=1", "http://host/?q=1"), ("HTTP://host/", "http://host/"),
    ])
    func addresses(_ text: String, _ expected: String) {
        let url = ServiceURL(text)
        #expect(url?.text == expected)
        #expect(url?.authorization == nil)
    }

    @Test(arguments: [
        "", "host", "ftp://host/", "http://", "http:///path", "http://:80/", "http://a b/", "http://a/\n",
    ])
    func whatIsNone(_ text: String) {
        #expect(ServiceURL(text) == nil)
    }

    @Test(arguments: [
        ("http://user:pass@host/x", "Basic dXNlcjpwYXNz"), ("http://user@host/x", "Basic dXNlcjo="),
        ("http://us%40er:p%3Aw@host/x", "Basic dXNAZXI6cDp3"), ("http://a:b@c@host/x", "Basic YTpiQGM="),
    ])
    func credentialsGoIntoAHeaderAndAreNotPrinted(_ text: String, _ header: String) {
        let url = ServiceURL(text)
        #expect(url?.authorization == header)
        #expect(url.map { "\($0)" } == "http://host/x")
    }
}
