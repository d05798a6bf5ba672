// Two people's stories by Java's clients of Segment and RudderStack, unchanged but for their host:
// java -cp JARS Story.java HOST KEY LIMITED AWAY (USER COOKIE EMAIL){2}
// LIMITED and AWAY are hosts that answer 429 and 503. Prints as JSON what each client said of what failed, and of trying again.

import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;

public class Story {
  static final Map<String, String> PAGE = Map.of("url", "https://www.millwarden.example/pricing");

  static Map<String, String> traits(String email) {
    return Map.of("email", email, "title", "Plant manager");
  }

  static com.segment.analytics.Analytics segment(String host, String key, CountDownLatch done, List<String> failed, List<String> log) {
    return com.segment.analytics.Analytics.builder(key).endpoint(host).flushInterval(1, TimeUnit.SECONDS).flushQueueSize(5)
        .log(new com.segment.analytics.Log() {
          public void print(Level level, String format, Object... args) { note(log, done, format); }
          public void print(Level level, Throwable error, String format, Object... args) { note(log, done, format); }
        })
        .callback(new com.segment.analytics.Callback() {
          public void success(com.segment.analytics.messages.Message message) { done.countDown(); }
          public void failure(com.segment.analytics.messages.Message message, Throwable error) { failed.add(error.toString()); done.countDown(); }
        }).build();
  }

  static com.rudderstack.sdk.java.analytics.RudderAnalytics rudder(String host, String key, CountDownLatch done, List<String> failed, List<String> log) {
    return com.rudderstack.sdk.java.analytics.RudderAnalytics.builder(key).setDataPlaneUrl(host).flushInterval(1, TimeUnit.SECONDS).flushQueueSize(5)
        .log(new com.rudderstack.sdk.java.analytics.Log() {
          public void print(Level level, String format, Object... args) { note(log, done, format); }
          public void print(Level level, Throwable error, String format, Object... args) { note(log, done, format); }
        })
        .callback(new com.rudderstack.sdk.java.analytics.Callback() {
          public void success(com.rudderstack.sdk.java.analytics.messages.Message message) { done.countDown(); }
          public void failure(com.rudderstack.sdk.java.analytics.messages.Message message, Throwable error) { failed.add(error.toString()); done.countDown(); }
        }).build();
  }

  static void note(List<String> log, CountDownLatch done, String line) {
    if (line.contains("Retrying") || line.contains("Giving up")) {
      log.add(line);
      if (line.contains("Retrying")) done.countDown();
    }
  }

  public static void main(String[] given) throws Exception {
    String host = given[0], key = given[1];
    List<Thread> threads = new ArrayList<>();
    List<String> out = Collections.synchronizedList(new ArrayList<>());
    run(threads, out, "segment story", 5, (done, failed, log) -> {
      String user = given[4], cookie = given[5], email = given[6];
      var client = segment(host, key, done, failed, log);
      client.enqueue(com.segment.analytics.messages.PageMessage.builder("Pricing").properties(PAGE).anonymousId(cookie));
      client.enqueue(com.segment.analytics.messages.IdentifyMessage.builder().userId(user).anonymousId(cookie).traits(traits(email)));
      client.enqueue(com.segment.analytics.messages.GroupMessage.builder("account-7").userId(user).traits(Map.of("name", "Bo and Company")));
      client.enqueue(com.segment.analytics.messages.TrackMessage.builder("Demo Requested").userId(user));
      client.enqueue(com.segment.analytics.messages.AliasMessage.builder("old-" + cookie).userId(user));
      client.flush();
    });
    run(threads, out, "rudder story", 5, (done, failed, log) -> {
      String user = given[7], cookie = given[8], email = given[9];
      var client = rudder(host, key, done, failed, log);
      client.enqueue(com.rudderstack.sdk.java.analytics.messages.PageMessage.builder("Pricing").properties(PAGE).anonymousId(cookie));
      client.enqueue(com.rudderstack.sdk.java.analytics.messages.IdentifyMessage.builder().userId(user).anonymousId(cookie).traits(traits(email)));
      client.enqueue(com.rudderstack.sdk.java.analytics.messages.GroupMessage.builder("account-7").userId(user).traits(Map.of("name", "Bo and Company")));
      client.enqueue(com.rudderstack.sdk.java.analytics.messages.TrackMessage.builder("Demo Requested").userId(user));
      client.enqueue(com.rudderstack.sdk.java.analytics.messages.AliasMessage.builder("old-" + cookie).userId(user));
      client.flush();
    });
    String[][] answers = {{"wrong key", host, "rl_nobody_x"}, {"limited", given[2], key}, {"away", given[3], key}};
    for (String[] answer : answers) {
      run(threads, out, "segment " + answer[0], 1, (done, failed, log) -> {
        var client = segment(answer[1], answer[2], done, failed, log);
        client.enqueue(com.segment.analytics.messages.TrackMessage.builder("Demo Requested").userId("nobody"));
        client.flush();
      });
      run(threads, out, "rudder " + answer[0], 1, (done, failed, log) -> {
        var client = rudder(answer[1], answer[2], done, failed, log);
        client.enqueue(com.rudderstack.sdk.java.analytics.messages.TrackMessage.builder("Demo Requested").userId("nobody"));
        client.flush();
      });
    }
    for (Thread thread : threads) thread.join();
    System.out.println("{" + String.join(",", out) + "}");
    System.exit(0);
  }

  interface Tale { void tell(CountDownLatch done, List<String> failed, List<String> log); }

  static void run(List<Thread> threads, List<String> out, String name, int messages, Tale tale) {
    Thread thread = new Thread(() -> {
      List<String> failed = Collections.synchronizedList(new ArrayList<>()), log = Collections.synchronizedList(new ArrayList<>());
      CountDownLatch done = new CountDownLatch(messages);
      try {
        tale.tell(done, failed, log);
        if (!done.await(20, TimeUnit.SECONDS)) failed.add("nothing was heard");
      } catch (Exception error) {
        failed.add(error.toString());
      }
      out.add(quoted(name) + ":{\"failed\":" + array(failed) + ",\"log\":" + array(log) + "}");
    });
    threads.add(thread);
    thread.start();
  }

  static String quoted(String text) { return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"").replace("\n", " ") + '"'; }

  static String array(List<String> texts) {
    List<String> out = new ArrayList<>();
    for (String text : texts) out.add(quoted(text));
    return "[" + String.join(",", out) + "]";
  }
}
